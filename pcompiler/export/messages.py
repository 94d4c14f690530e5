"""A text artifact as JSON: its chat messages, and the templated text."""

from __future__ import annotations

import json

from pcompiler.errors import DamageError
from pcompiler.export import card
from pcompiler.export.base import Exported, Exporter, Request

WHAT = (
    "A prompt with less text. In messages.json, `messages` are chat messages for any service that "
    "takes them; `context` is the same in this model's chat template, and a request is "
    "`context + before + query + after`, as text."
)
LOST = (
    "`messages` is null: an older pcompiler compiled the artifact, and kept the templated text "
    "only. Compile it again."
)


class Messages(Exporter):
    """messages.json and README.md."""

    name = "messages"

    def files(self, request: Request) -> Exported:
        """The text, and its messages."""
        header = request.header
        context = _text(request, "text")
        if context is None:
            raise DamageError(f"artifact {header.id} has no text.")
        stored = _text(request, "messages")
        messages = json.loads(stored) if stored is not None else None
        notes: tuple[str, ...] = (LOST,) if messages is None else ()
        body = {
            "messages": messages,
            "context": context,
            "before": header.before,
            "after": header.after,
        }
        files = {
            "messages.json": (json.dumps(body, ensure_ascii=False, indent=2) + "\n").encode(),
            "README.md": card.readme(header, WHAT, (), notes),
        }
        return Exported(files, notes, {"messages": len(messages) if messages else None})


def _text(request: Request, name: str) -> str | None:
    tensor = request.artifact.tensors().get(name)
    return None if tensor is None else bytes(tensor.tolist()).decode(errors="replace")


EXPORTER = Messages()
