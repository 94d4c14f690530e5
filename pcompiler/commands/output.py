"""What the commands print, for people and for machines."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from pcompiler.store.artifact import Header
from pcompiler.table import nbytes, percent, render, seconds

LEAST_SAVED = 0.03  # of the time to first token: less is noise
LIST_COLUMNS = (
    "artifact",
    "target",
    "model",
    "tokens",
    "kept",
    "size",
    "KL",
    "agreement",
    "created",
)


def json_line(value: dict[str, Any]) -> None:
    """One object on one line: the last line of every ``--json``."""
    print(json.dumps(value, ensure_ascii=False))


def summary(header: Header) -> dict[str, Any]:
    """An artifact as ``--json`` tells it; times in seconds."""
    return {
        "target": header.target,
        "artifact": header.id,
        "model": header.model_name,
        "context_tokens": header.context_tokens,
        "kept_tokens": header.kept_tokens,
        "size_bytes": header.size_bytes,
        "compile_s": header.timing.get("compile_s"),
        "measure_s": header.timing.get("measure_s"),
        "ttft_s": header.timing.get("ttft_s"),
        "full_ttft_s": header.timing.get("full_ttft_s"),
        "break_even_requests": break_even(header),
        "fidelity": asdict(header.fidelity),
        "fit": header.fit,
        "created": header.created,
    }


def break_even(header: Header) -> int | None:
    """Requests after which compiling has paid for itself; none: it never does, or is not known."""
    t = header.timing
    if not {"compile_s", "ttft_s", "full_ttft_s"} <= t.keys():
        return None
    saved_s = t["full_ttft_s"] - t["ttft_s"]
    return math.ceil(t["compile_s"] / saved_s) if saved_s > LEAST_SAVED * t["full_ttft_s"] else None


def _worth(header: Header) -> str:
    t, requests = header.timing, break_even(header)
    if "full_ttft_s" not in t:
        return ""
    full = f"with the full prompt after {seconds(t['full_ttft_s'])}"
    if requests is None:
        return f"{full}: not worth compiling on this machine, for time"
    return f"{full}: compiling pays from request {requests} on"


def report(header: Header) -> str:
    """An artifact for people: sizes, times, and its fidelity between the bounds."""
    f, t = header.fidelity, header.timing
    rows = [
        (f"artifact ({header.target})", f"{f.kl:.3g}", percent(f.agreement)),
        ("no prompt", f"{f.kl_no_prompt:.3g}", percent(f.agreement_no_prompt)),
    ]
    if f.kl_uncovered is not None and f.agreement_uncovered is not None:
        label = f"… {f.probes_uncovered} on what no fitting probe asked"
        rows.insert(1, (label, f"{f.kl_uncovered:.3g}", percent(f.agreement_uncovered)))
    return "\n".join(
        [
            f"{header.context_tokens} tokens, {header.kept_tokens} kept; "
            f"{nbytes(header.size_bytes)}; first token after {seconds(t.get('ttft_s'))}",
            f"built and stored in {seconds(t.get('compile_s'))}, "
            f"fidelity measured in {seconds(t.get('measure_s'))}",
            *([worth] if (worth := _worth(header)) else []),
            *([let_go] if (let_go := _let_go(header)) else []),
            "",
            render(("", "KL (nats/token)", "agreement"), rows),
            f"on {f.answer_tokens} answer tokens of {f.probes} held-out probes "
            f"({header.probes_from})",
        ]
    )


def _let_go(header: Header) -> str:
    names = header.fit.get("let_go")
    return f"not protected, because they did not fit: {', '.join(names)}" if names else ""


def list_row(header: Header) -> tuple[str, ...]:
    """One row of ``store list``."""
    f = header.fidelity
    return (
        header.id,
        header.target,
        header.model_name,
        str(header.context_tokens),
        str(header.kept_tokens),
        nbytes(header.size_bytes),
        f"{f.kl:.2g}",
        percent(f.agreement),
        header.created[:16],
    )
