"""Text, marked-up text or chat messages → Prompt."""

from pcompiler.frontend.parse import parse, read_source

__all__ = ["parse", "read_source"]
