"""The server: artifacts, compiling and chat over HTTP."""
