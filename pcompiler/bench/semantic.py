"""Fewer tokens: how far real text can be shortened while it stays like itself, and how fast.

What bounds it: BLEU's brevity penalty alone is exp(1 − 1/rate), so 0.94 ends at 94 % of the words.
How faithful a model's answers are to what was shortened is another question, which
``benches/semantic_ladder.py`` answers on held-out queries. The model ranks in one prefill of
2·P·n operations and two thirds of another over a few words from each passage, n/4 at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from pcompiler import fidelity, progress, quality
from pcompiler.bench import corpora, reference
from pcompiler.bench.corpora import Corpus
from pcompiler.bench.harness import Figure, Samples, Setting
from pcompiler.codec import zstd
from pcompiler.config import Config, TargetConfig
from pcompiler.embed.encoder import Encoder
from pcompiler.errors import BudgetError
from pcompiler.frontend import parse
from pcompiler.model import LanguageModel
from pcompiler.passes.shorten import Settings, Shortener, without_model
from pcompiler.passes.words import Words
from pcompiler.runtime.prefix import prefill
from pcompiler.targets.base import Compilation
from pcompiler.targets.text import TARGET, ranked

CHARACTERS, QUICK_CHARACTERS = 4_000, 1_200  # of a text: about 1,000 and 300 tokens
SAVINGS = tuple(percent / 100 for percent in range(1, 17))
RATES = (0.8, 0.5, 0.33, 0.2)
LENGTHS = (500, 1_200, 4_000, 32_000)  # characters: 100 to 8,000 tokens
NONE = (
    "no shorter version keeps all three: even blanks without meaning, where a text has many, are "
    "so easy to predict that perplexity for each token rises without them."
)
LEVEL = 19  # of what is stored of a shortened text
_figure = partial(Figure, "compression_performance")


@dataclass(frozen=True)
class Likeness:
    """One text, shortened, beside its original.

    Attributes:
        saved: tokens, 0..1.
        stored: bytes that are saved once the rest is compressed as well, 0..1.
        bleu: 0..1.
        cosine: of the embeddings.
        loss: of perplexity, relative.
    """

    saved: float
    stored: float
    bleu: float
    cosine: float
    loss: float

    @property
    def good(self) -> bool:
        """Whether all three measures are as good as the published ones."""
        return (
            self.bleu >= reference.BLEU
            and self.cosine >= reference.COSINE
            and self.loss < reference.PERPLEXITY_LOSS
        )


NOTHING = Likeness(1.0, 1.0, 0.0, 0.0, 1.0)


def figures(setting: Setting, found: Sequence[Corpus], model: LanguageModel) -> list[Figure]:
    """All figures of the semantic half."""
    encoder = Encoder.load("cpu")
    made: list[Figure] = []
    with progress.bar(len(found) + 2, "fewer tokens", "part") as shown:
        for corpus in found:
            texts = list(
                _texts(corpus, 1, QUICK_CHARACTERS) if setting.quick else _texts(corpus, 2)
            )
            made += _like(corpus.kind, texts, model, encoder)
            made += [] if setting.quick else _answers(corpus, model)
            shown.update()
        made += _speed(model, setting)
        shown.update()
        made += _met(model, found[0])
        shown.update()
    return made


def _like(kind: str, texts: Sequence[str], model: LanguageModel, encoder: Encoder) -> list[Figure]:
    best = [_best(text, kind, model, encoder) for text in texts]
    best = [one for one in best if one is not None]
    name = f"{kind}, BLEU ≥ 0.94, cosine ≥ 0.97, perplexity + < 3 %"
    if not best:
        return [_figure(f"{name}: tokens saved", 0.0, "%", "higher", note=NONE)]

    def mean(of: str, scale: float = 1.0) -> float:
        return scale * float(sum(getattr(one, of) for one in best)) / len(best)

    published = reference.COMPRESSION_SAVED.get(kind)
    return [
        _figure(f"{name}: tokens saved", mean("saved", 100), "%", "higher"),
        _figure(
            f"… and stored at level {LEVEL}: bytes saved", mean("stored", 100), "%", "higher",
            None if published is None else 100 * published,
            note="pieces of 4 KB, each in a frame of its own: see the 2 and 8 KB rows for why.",
        ),
        _figure("… BLEU", mean("bleu"), "", "higher", reference.BLEU),
        _figure("… cosine", mean("cosine"), "", "higher", reference.COSINE),
        _figure(
            "… perplexity", mean("loss", 100), "% more", "lower", 100 * reference.PERPLEXITY_LOSS
        ),
    ]  # fmt: skip


def _answers(corpus: Corpus, model: LanguageModel) -> list[Figure]:
    """KL and agreement of a text at half its tokens, on queries that the model writes to it."""
    text = next(_texts(corpus, 1), None)
    if text is None:
        return []
    config = Config(targets=TARGET.resolved(TargetConfig(rate=0.5)))
    known = Compilation(parse(_fenced(text, corpus.kind)), model, config)
    teacher = fidelity.reference(known, known.probes)
    student = TARGET.attach(model, TARGET.build(known).tensors)
    found = fidelity.measure(model, student, teacher)
    return [
        _figure(
            f"{corpus.kind}, half the tokens: KL", found.kl, "nats/token", "lower",
            baseline=found.kl_no_prompt,
        ),
        _figure(
            "… agreement", 100 * found.agreement, "%", "higher",
            baseline=100 * found.agreement_no_prompt,
        ),
    ]  # fmt: skip


def _fenced(text: str, kind: str) -> str:
    """Code as Markdown has it; other text as it is."""
    return f"```\n{text}\n```\n" if kind == corpora.CODE else text


def _best(text: str, kind: str, model: LanguageModel, encoder: Encoder) -> Likeness | None:
    """The shortest version that is as like its original as the published figures."""
    source = _fenced(text, kind)
    shortener = _ranked(source, model)
    original = quality.perplexity(model, text)

    def at(saved: float) -> Likeness:
        try:
            done = shortener.to(round((1 - saved) * shortener.tokens))
        except BudgetError:  # a block that stays whole
            return NOTHING
        short = "".join(m.content for m in done.prompt.messages)
        short = short.removeprefix("```\n").removesuffix("\n```\n") if source != text else short
        kept = len(zstd.compress(short.encode(), LEVEL))
        return Likeness(
            1 - done.tokens / shortener.tokens,
            1 - kept / len(text.encode()),
            quality.bleu(text, short),
            quality.cosine(encoder, text, short),
            quality.perplexity(model, short) / original - 1,
        )

    low, high = -1, len(SAVINGS)  # the more goes, the less alike
    best = None
    while high - low > 1:
        middle = (low + high) // 2
        likeness = at(SAVINGS[middle])
        if likeness.good:
            low, best = middle, likeness
        else:
            high = middle
    return best


def _speed(model: LanguageModel, setting: Setting) -> list[Figure]:
    """Without a model beside tokenizing alone; with it against one prefill of the text, in turn."""
    from pydoc_data.topics import topics

    names = sorted(topics)
    text, other = ("\n\n".join(topics[name] for name in names[of::2]) for of in (0, 1))
    text = text[: 100_000 if setting.quick else None]
    tokenizer = model.tokenizer.backend_tokenizer
    alone, lexical, again, by_model, bare = (Samples() for _ in range(5))
    ratios = []
    short = text[: QUICK_CHARACTERS if setting.quick else CHARACTERS]
    ids = model.tokenizer.encode(short, add_special_tokens=False)

    def by_words(words: Words) -> None:
        without_model(parse(text), words, TargetConfig(rate=0.5))

    for _ in range(min(setting.rounds, 3)):
        known = Words(tokenizer)
        known.counts([other])
        alone.time(setting.device, lambda: tokenizer.encode(text, add_special_tokens=False))
        lexical.time(setting.device, lambda: by_words(Words(tokenizer)))
        again.time(setting.device, partial(by_words, known))
        bare.time(setting.device, lambda: prefill(model, ids))
        by_model.time(setting.device, lambda: _ranked(short, model).to(len(ids) // 2))
        ratios.append(by_model.cpu[-1] / bare.cpu[-1])
    megabytes = len(text.encode()) / 1e6

    def speed(name: str, samples: Samples) -> Figure:
        rates = [megabytes / seconds for seconds in samples.cpu]
        return _figure(
            name, max(rates), "MB/s", "higher", baseline=megabytes / min(alone.cpu),
            spread=max(rates) - min(rates), cpu_s=samples.cpu_median,
        )  # fmt: skip

    return [
        speed("shortening without a model, of one core, beside tokenizing alone", lexical),
        speed("… where words are known from other prompts", again),
        _figure(
            "shortening by the model, CPU over a prefill's", median(ratios), "×", "lower",
            goal=reference.SHORTEN_PREFILLS_GOAL, spread=max(ratios) - min(ratios),
            cpu_s=by_model.cpu_median,
        ),
    ]  # fmt: skip


def _met(model: LanguageModel, corpus: Corpus) -> list[Figure]:
    """The largest error of the rate, in whole tokens, over lengths and rates.

    Ranked without a model, as the budget is met by the same code.
    """
    text = "\n\n".join(file.data.decode() for file in corpus.measured)
    tokenizer = model.tokenizer.backend_tokenizer
    errors = []
    for length in LENGTHS:
        whole = Shortener(parse(text[:length]), tokenizer, Settings())
        budgets = [round(rate * whole.tokens) for rate in RATES]
        errors += [abs(whole.to(budget).tokens / budget - 1) for budget in budgets]
    worst = 100 * max(errors)
    return [
        _figure(
            "error of the rate, worst of 100 to 8,000 tokens",
            worst,
            "%",
            "lower",
            goal=100 * reference.RATE_ERROR_GOAL,
        )
    ]


def _ranked(source: str, model: LanguageModel) -> Shortener:
    config = Config(targets=TARGET.resolved(TargetConfig(rate=0.5)))
    return ranked(Compilation(parse(source), model, config), config.targets)


def _texts(corpus: Corpus, count: int, characters: int = CHARACTERS) -> Iterator[str]:
    """The beginnings of a few files, to a line's end, as long as there are any."""
    found = 0
    for file in corpus.measured:
        text = file.data.decode()[:characters]
        text = text[: text.rfind("\n") + 1] or text
        if len(text) > characters // 3 and found < count:
            found += 1
            yield text
