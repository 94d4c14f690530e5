"""The demo: compile the support desk, compare it with the full prompt, ask two questions."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pcompiler.threads import patient_threads

patient_threads()  # before anything imports torch

from pcompiler import Compiler, PcompilerError, Session
from pcompiler.commands.output import summary
from pcompiler.frontend import read_source
from pcompiler.pipeline import Compiled
from pcompiler.progress import bar
from pcompiler.queries import read_queries
from pcompiler.runtime.prefix import nothing
from pcompiler.table import nbytes, percent, render, seconds, side_by_side
from pcompiler.template import Template

HERE = Path(__file__).parent
PROMPT = HERE / "support_desk.md"
QUERIES = HERE / "support_desk.queries.jsonl"
STORE = HERE.parent / ".demo" / "store"
ASKED = (
    "hi, are you open on saturday afternoon?",
    "My frame number starts with KE23. Is it safe to ride to work tomorrow?",
)
ROUNDS = 3


def main() -> int:
    """Run the demo; the second time, the artifacts are found in the store."""
    source = read_source(PROMPT)
    queries = [probe.query for probe in read_queries(QUERIES)]
    with Compiler(store=STORE) as compiler:
        print(f"compiling {PROMPT.name} for {compiler.model.name} on {compiler.model.device}")
        kv = compiler.compile(source, target="kv", queries=queries)
        text = compiler.compile(source, target="text", queries=queries)
        for done in (kv, text):
            how = "already compiled, found" if done.cached else "compiled and measured"
            print(f"  {done.header.target:<4} {done.id}  {how} in {seconds(done.elapsed_s)}")
        print(f"\n{table(compiler, source, kv, text)}\n")
        for query in ASKED:
            print(f"“{query}”\n{answers(compiler, source, kv, query)}\n")
        print("SmolLM2 has 135 million parameters: it reads the handbook, and still errs. What")
        print("counts here is that both columns err alike. Next, in your own words:\n")
        where = STORE.relative_to(HERE.parent)
        print(f'  .venv/bin/pcompiler run {kv.id[:8]} "do you ship to Zurich?" --store {where}')
    return 0


def table(compiler: Compiler, source: str, kv: Compiled, text: Compiled) -> str:
    """Both bounds and both artifacts."""
    openings: dict[str, Callable[[], Session]] = {
        "full prompt": lambda: compiler.full_prompt(source),
        "kv": lambda: compiler.session(kv),
        "text": lambda: compiler.session(text),
        "no prompt": lambda: _no_prompt(compiler, kv),
    }
    waits = _first_token_times(openings, ASKED[0])
    f, tokens = kv.fidelity, str(kv.header.context_tokens)
    rows = [("full prompt", tokens, nbytes(len(source.encode())), "0", "100 %")]
    for done in (kv, text):
        s = summary(done.header)
        fidelity = f"{done.fidelity.kl:.2g}", percent(done.fidelity.agreement)
        rows.append((s["target"], str(s["kept_tokens"]), nbytes(s["size_bytes"]), *fidelity))
    rows.append(("no prompt", "0", "0 B", f"{f.kl_no_prompt:.2g}", percent(f.agreement_no_prompt)))
    shown = [(*row[:3], seconds(waits[row[0]]), *row[3:]) for row in rows]
    head = ("target", "tokens", "bytes", "first token", "KL (nats/token)", "agreement")
    note = (
        f"KL and agreement on {f.answer_tokens} answer tokens of {f.probes} held-out queries; the "
        "full prompt is\nthe teacher, so its row is so by definition. First token: loading "
        f"included, median of {ROUNDS}."
    )
    return f"{render(head, shown)}\n{note}"


def answers(compiler: Compiler, source: str, artifact: Compiled, query: str) -> str:
    """One query, full prompt against artifact."""
    with compiler.full_prompt(source) as full, compiler.session(artifact) as session:
        texts = (full.generate(query, max_tokens=60), session.generate(query, max_tokens=60))
    return side_by_side(("full prompt", f"artifact ({artifact.header.target})"), texts)


def _no_prompt(compiler: Compiler, like: Compiled) -> Session:
    template = Template(compiler.model.tokenizer, "", like.header.before, like.header.after)
    return Session(compiler.model, nothing(compiler.model), template)


def _first_token_times(openings: dict[str, Callable[[], Session]], query: str) -> dict[str, float]:
    """Median seconds from nothing attached to the first piece of text, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in openings}
    with bar(ROUNDS * len(openings), "time to first token", "run") as shown:
        for _ in range(ROUNDS):
            for name, opened in openings.items():
                start = time.perf_counter()
                with opened() as session:
                    next(session.stream(query))
                times[name].append(time.perf_counter() - start)
                shown.update()
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PcompilerError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("demo: interrupted; the store is as it was.", file=sys.stderr)
        sys.exit(130)
