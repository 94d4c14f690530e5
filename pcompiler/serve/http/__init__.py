"""The HTTP side of the server: workers that read the store and pass on what needs a model."""
