"""One context of the semantic ladder: every method at every rate, measured alike."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benches.ladder_contexts import LadderContext
from benches.peers.run_llmlingua import STYLES, job, llmlingua, messages_of
from benches.semantic_answers import scores
from benches.semantic_methods import METHODS, Method, Shortened, shortened, text_tokens
from pcompiler import embedded, fidelity
from pcompiler.config import Config
from pcompiler.errors import UserError
from pcompiler.frontend import parse
from pcompiler.ir import Probe
from pcompiler.model import LanguageModel
from pcompiler.runtime.decode import answer_all, score
from pcompiler.runtime.prefix import Prefix, nothing, prefill
from pcompiler.targets.base import Compilation

Row = dict[str, Any]

RATES = (0.8, 0.5, 0.33, 0.2)
PREFILLS = 3
SAME_MODEL = 1e-3  # nats a token that two environments may differ by on one text


def measure(
    model: LanguageModel,
    context: LadderContext,
    methods: Sequence[str],
    peer: Path | None,
    rates: Sequence[float] = RATES,
) -> Row:
    """All rows of one context.

    Raises:
        RuntimeError: the peer failed as a whole, or does not run the same model.
    """
    probes = [Probe(query) for query in (*context.held_out, *context.uncovered)]
    fit = [Probe(query) for query in context.fit]
    known = Compilation(parse(context.source), model, Config(), probes, fit)
    scale = _Scale(known, context, probes)
    rows = scale.bounds()
    for name in (name for name in METHODS if name in methods):
        for rate in rates:
            print(f"  {name} {rate:g}", file=sys.stderr, flush=True)
            rows.append({"method": name, "rate": rate, **scale.try_row(METHODS[name], rate)})
    if peer is not None and (styles := [name for name in STYLES if name in methods]):
        rows += _peer_rows(scale, peer, styles, rates)
    return {
        "context": context.name,
        "kind": context.kind,
        "tokens": text_tokens(model, known.prompt.messages),
        "queries": len(probes),
        "with_gold": len(scale.asked) if context.gold else 0,
        "answer_tokens": scale.reference.answer_tokens,
        "rows": rows,
    }


class _Scale:
    """What every row of a context is measured with.

    Exact match and F1 are against the data set's answers, on the queries that have them; where
    the prompt has none, against the answers with the full prompt.
    """

    def __init__(self, known: Compilation, context: LadderContext, probes: Sequence[Probe]) -> None:
        self.known = known
        self.reference = fidelity.reference(known, probes)
        decoded = [self._text(answer.tokens) for answer in self.reference.answers]
        gold = [list(context.gold.get(probe.query, ())) for probe in probes]
        self.gold = gold if context.gold else [[answer] for answer in decoded]
        self.asked = [i for i, right in enumerate(self.gold) if right]

    def bounds(self) -> list[Row]:
        """The full prompt, taken through the same steps as a shorter one, and no prompt."""
        context = self.known.context
        walls, cpus = zip(*(self._prefill(context) for _ in range(PREFILLS)), strict=True)
        seconds = {"seconds": statistics.median(walls), "cpu_s": statistics.median(cpus)}
        full = self._figures(prefill(self.known.model, context)) | {"rate_met": 1.0}
        none = self._figures(nothing(self.known.model)) | {"rate_met": 0.0}
        return [{"method": "full prompt", **full, **seconds}, {"method": "no prompt", **none}]

    def try_row(self, method: Method, rate: float) -> Row:
        """The figures of a method, or why it refuses the rate."""
        try:
            return self.row(method(self.known, rate))
        except UserError as refusal:
            return {"error": str(refusal)}

    def row(self, short: Shortened) -> Row:
        """The figures of one shorter prompt."""
        whole = text_tokens(self.known.model, self.known.prompt.messages)
        cost = {"seconds": short.seconds, "cpu_s": short.cpu_s}
        figures = self._figures(prefill(self.known.model, short.context))
        return {"rate_met": short.kept_tokens / whole, **figures, **cost}

    def _figures(self, prefix: Prefix) -> Row:
        model, known = self.known.model, self.reference
        kl, agreement = fidelity.compare(model, prefix, known, "semantic").means()
        queries = known.queries if prefix.length else known.bare
        asked = [queries[i] for i in self.asked]
        limit = self.known.config.probes.answer_tokens
        found = answer_all(model, prefix, asked, limit, "answers")
        answers = [self._text(answer.tokens) for answer in found]
        right = scores(answers, [self.gold[i] for i in self.asked])
        return {"kl": kl, "agreement": agreement, **right}

    def _prefill(self, context: list[int]) -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        prefill(self.known.model, context)
        return time.perf_counter() - wall, time.process_time() - cpu

    def _text(self, tokens: list[int]) -> str:
        text: str = self.known.model.tokenizer.decode(tokens, skip_special_tokens=True)
        return text


def _peer_rows(
    scale: _Scale, peer: Path, styles: Sequence[str], rates: Sequence[float]
) -> Iterator[Row]:
    """LLMLingua's rows; where it fails on one, a row that says so."""
    model, messages = scale.known.model, scale.known.prompt.messages
    wanted = job(messages, rates, model.device.use_threads(None), styles)
    found = llmlingua(peer, embedded.folder(), wanted)
    if found is None:
        return
    _check_same_model(model, wanted["check"], found["nll"])
    yield {
        "method": "llmlingua prefill",
        "seconds": found["prefill_s"],
        "cpu_s": found["prefill_cpu_s"],
    }
    for request, row in zip(wanted["requests"], found["rows"], strict=True):
        asked = {"method": request["style"], "rate": row["rate"]}
        print(f"  {asked['method']} {asked['rate']:g}", file=sys.stderr, flush=True)
        yield asked | _peer_figures(scale, row)


def _peer_figures(scale: _Scale, row: Row) -> Row:
    if "error" in row:
        return {"error": row["error"]}
    model, messages = scale.known.model, scale.known.prompt.messages
    try:
        kept = messages_of(messages, row["text"])
    except ValueError as failure:
        return {"error": str(failure)}
    first = {"rate_met_first": row["first_tokens"] / row["origin_tokens"]}
    return scale.row(shortened(model, kept, row["seconds"], row["cpu_s"])) | first


def _check_same_model(model: LanguageModel, text: str, peers: float) -> None:
    ids = model.tokenizer.encode(text, add_special_tokens=False)
    log_p = next(score(model, nothing(model), [ids[:1]], [ids[1:]]))
    own = -float(log_p.gather(1, model.tensor(ids[1:]).T).mean())
    if abs(own - peers) > SAME_MODEL:
        raise RuntimeError(
            f"the peer runs another model: {peers:.4f} nats a token where ours has {own:.4f}."
        )
