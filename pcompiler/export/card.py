"""README.md of an exported folder: what it is, how faithful, and the code that uses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pcompiler import embedded
from pcompiler.model import ModelCard
from pcompiler.store.artifact import Header
from pcompiler.table import percent

QUESTION = "When do you open?"


def readme(header: Header, what: str, code: Sequence[str], notes: Sequence[str]) -> bytes:
    """The whole file.

    Args:
        header: of the artifact.
        what: one paragraph on what the folder is.
        code: lines of Python, run in the folder; none: no code.
        notes: a sentence each.
    """
    f = header.fidelity
    fingerprint = ModelCard(**header.model).fingerprint
    lines = [
        f"# Artifact {header.id}: a compiled prompt",
        "",
        what,
        "",
        f"- Model: `{header.model_name}` ({header.model['family']}, {header.model['dtype']}), "
        f"fingerprint `{fingerprint}`, weights `{header.model['weights']}`. Use it with no other.",
        f"- Prompt: {header.context_tokens} tokens, hash `{header.prompt_hash}`.",
        f"- Fidelity of the artifact: KL {f.kl:.3g} nats/token, agreement {percent(f.agreement)}; "
        f"without any prompt {f.kl_no_prompt:.3g} and {percent(f.agreement_no_prompt)} "
        f"({f.answer_tokens} answer tokens of {f.probes} held-out probes).",
        *(f"- {note}" for note in notes),
    ]
    if code:
        lines += ["", "Run in this folder:", "", "```python", *code, "```"]
    return ("\n".join(lines) + "\n").encode()


def base_of(header: Header) -> str:
    """What ``from_pretrained`` takes to load the artifact's model on this machine."""
    name = header.model_name
    path = embedded.converted() if name == embedded.NAME else Path(name).expanduser()
    return str(path.resolve()) if path is not None and path.is_dir() else name


def loading(header: Header, variable: str, *options: str) -> list[str]:
    """Lines that load the model and its tokenizer."""
    base = base_of(header)
    given = ", ".join([repr(base), f"dtype=torch.{header.model['dtype']}", *options])
    return [
        f"{variable} = AutoModelForCausalLM.from_pretrained({given})",
        f"tokenizer = AutoTokenizer.from_pretrained({base!r})",
    ]


def query(header: Header) -> list[str]:
    """Lines that turn a question into tokens as the artifact was compiled for: ``query``."""
    return [
        f"text = {header.before!r} + {QUESTION!r} + {header.after!r}",
        'query = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids',
    ]


def generating(seen: str, *options: str) -> list[str]:
    """Lines that answer ``query``.

    Args:
        seen: expression for the tokens before the query and in it.
        options: more arguments of ``generate``.
    """
    mask = f"attention_mask=torch.ones(1, {seen}, dtype=torch.long)"
    given = ", ".join(["query", mask, *options, "max_new_tokens=64", "do_sample=False"])
    return [
        f"answer = model.generate({given})",
        "print(tokenizer.decode(answer[0, query.shape[1] :], skip_special_tokens=True))",
    ]
