"""The hot operations, one function each: plain torch, and a faster path where it is proved faster.

Which one runs, and why, is told by ``Op.chosen``; ``PCOMPILER_CHECK=1`` compares the two.
"""

from __future__ import annotations
