"""One command, one file: ``run(args) -> exit code``. Bad input is refused before any work."""
