"""Compile a long prompt once into an artifact that stands in for it, and measure how faithfully.

    import pcompiler

    with pcompiler.Compiler(model="smollm2", device="auto") as c:
        a = c.compile(text, target="kv")
        with c.session(a) as s:
            print(s.generate("When do you open?"))

Importing this package imports no torch; the first use of a name does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcompiler.compiler import Compiler
    from pcompiler.config import Config
    from pcompiler.errors import PcompilerError
    from pcompiler.frontend import parse
    from pcompiler.ir import Fidelity, Prompt
    from pcompiler.model import LanguageModel
    from pcompiler.session import Session
    from pcompiler.store.artifact import Artifact
    from pcompiler.store.db import Store

__version__ = "0.1.0"
_HOMES = {
    "Artifact": "pcompiler.store.artifact",
    "Compiler": "pcompiler.compiler",
    "Config": "pcompiler.config",
    "Fidelity": "pcompiler.ir",
    "LanguageModel": "pcompiler.model",
    "PcompilerError": "pcompiler.errors",
    "Prompt": "pcompiler.ir",
    "Session": "pcompiler.session",
    "Store": "pcompiler.store.db",
    "parse": "pcompiler.frontend",
}
__all__ = [
    "Artifact",
    "Compiler",
    "Config",
    "Fidelity",
    "LanguageModel",
    "PcompilerError",
    "Prompt",
    "Session",
    "Store",
    "parse",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOMES:
        raise AttributeError(f"module 'pcompiler' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
