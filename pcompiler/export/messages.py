"""A text artifact as JSON: its chat messages where they are known, and the templated text."""

from __future__ import annotations

import json

from pcompiler.errors import DamageError
from pcompiler.export import card
from pcompiler.export.base import Exported, Exporter, Request
from pcompiler.frontend import parse
from pcompiler.passes import deduplicate, normalize

WHAT = (
    "A prompt with less text. In messages.json, `messages` are chat messages for any service that "
    "takes them; `context` is the same in this model's chat template, and a request is "
    "`context + before + query + after`, as text."
)
LOST = (
    "`messages` is null: the artifact keeps the templated text only, and the prompt that it was "
    "compiled from was not at hand. Export from the store that has it, or with --prompt FILE."
)
OTHER = (
    "`messages` is null: this version of pcompiler shortens the prompt otherwise than the one that "
    "compiled the artifact. Compile it again."
)


class Messages(Exporter):
    """messages.json and README.md."""

    name = "messages"

    def files(self, request: Request) -> Exported:
        """The text, and its messages if the prompt is known and shortens to this text again."""
        header = request.header
        context = _context(request)
        messages = _messages(request.source) if request.source is not None else None
        notes: tuple[str, ...] = (LOST,) if messages is None else ()
        if messages is not None and not _stand_in(context, messages):
            messages, notes = None, (OTHER,)
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


def _context(request: Request) -> str:
    text = request.artifact.tensors().get("text")
    if text is None:
        raise DamageError(f"artifact {request.header.id} has no text.")
    return bytes(text.tolist()).decode(errors="replace")


def _messages(source: str) -> list[dict[str, str]]:
    """The prompt once more through the passes of the text target, which need no model."""
    prompt = deduplicate.run(normalize.run(parse(source)))
    return [{"role": m.role, "content": m.content} for m in prompt.messages]


def _stand_in(context: str, messages: list[dict[str, str]]) -> bool:
    """Whether the messages are in the text, in order; templates strip what is around them."""
    at = 0
    for message in messages:
        content = message["content"].strip()
        at = context.find(content, at)
        if at < 0:
            return False
        at += len(content)
    return True


EXPORTER = Messages()
