"""One file, one pass: ``run(prompt) -> prompt``. Passes change texts, never sources."""
