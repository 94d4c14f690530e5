"""What the outcomes of entropy coding come to: figures beside their references and bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from statistics import median

from pcompiler.bench import reference
from pcompiler.bench.corpora import KINDS
from pcompiler.bench.entropy import KB2, KB8, STREAM, WHOLE, Outcome
from pcompiler.bench.entropy_study import how
from pcompiler.bench.harness import Figure, spread

CUTS = (STREAM, WHOLE, KB8, KB2)
_figure = partial(Figure, "compression_performance")


def figures(outcomes: Sequence[Outcome], missing: Mapping[str, str]) -> list[Figure]:
    """All figures: for each content type, then over all of them.

    Args:
        outcomes: of all content types.
        missing: content types that could not be measured, and what to do about it.
    """
    found: list[Figure] = []
    for kind in KINDS:
        if mine := [o for o in outcomes if o.kind == kind]:
            found += _of_type(kind, mine)
    return [*found, *_high(outcomes), *_shares(outcomes), _types(outcomes, missing)]


def _of_type(kind: str, mine: Sequence[Outcome]) -> list[Figure]:
    return [
        *(_saved(kind, cut, mine) for cut in (WHOLE, KB8, KB2)),
        *(f for cut in (WHOLE, KB8) for f in _cheapest(kind, cut, mine)),
        _saved_stream(kind, mine),
        *_speeds(kind, mine),
        *_command(kind, mine),
        _same(kind, mine),
    ]


def _saved(kind: str, cut: str, mine: Sequence[Outcome]) -> Figure:
    """The most that any method saves; without its dictionary as the baseline."""
    best = _best(_where(mine, cut))
    plain = _plain(mine, cut, best.level)
    without = 100 * plain.saved if plain else None
    return _figure(
        f"{kind}, {cut}: saved", 100 * best.saved, "%", "higher",
        _percent(reference.COMPRESSION_SAVED.get(kind)), without,
        cpu_s=best.size_bytes / best.compress.mb_per_cpu_s / 1e6, note=_bounds(best, mine),
        by=how(best),
    )  # fmt: skip


def _bounds(best: Outcome, mine: Sequence[Outcome]) -> str:
    """What is between a short text and its long stream, all of it measured."""
    alike = [o for o in _where(mine, WHOLE) if _same_method(o, best)]
    stream = _best(_where(mine, STREAM))
    heads = best.framing_bytes / best.size_bytes
    whole = f"{alike[0].saved:.1%} in the stream of their whole files, " if alike else ""
    return (
        f"texts of {best.size_bytes / best.parts:,.0f} bytes on average, the most of any method "
        f"measured. The same texts save {whole}and all of the type in one stream {stream.saved:.1%}"
        f" ({how(stream)}); heads and checksums of frames take {heads:.1%} of the text."
    )


def _cheapest(kind: str, cut: str, mine: Sequence[Outcome]) -> list[Figure]:
    """The fastest method that saves as much as the reference, and how fast that is."""
    wanted = reference.COMPRESSION_SAVED.get(kind)
    single = [o for o in _where(mine, cut) if o.threads == 1]
    enough = [o for o in single if wanted is not None and o.saved >= wanted]
    if wanted is None or not enough:
        return []
    best = max(enough, key=lambda o: o.compress.mb_per_cpu_s)
    name = f"{kind}, {cut}: compress at {wanted:.0%} saved"
    return [_rate(name, kind, best, mine)]


def _saved_stream(kind: str, mine: Sequence[Outcome]) -> Figure:
    best = _best(_where(mine, STREAM))
    others = (f"{name} {saved:.1%}" for o in mine for name, saved in o.elsewhere.items())
    note = (
        f"the most of any level measured, of {best.size_bytes:,} bytes; other compressors save of "
        f"the same: {', '.join(others)}."
    )
    goal = 100 * reference.COMPRESSION_SAVED_GOAL
    name = f"{kind}, {STREAM} of all files: saved"
    return _figure(name, 100 * best.saved, "%", "higher", goal=goal, note=note, by=how(best))


def _speeds(kind: str, mine: Sequence[Outcome]) -> list[Figure]:
    """Both ways at the fastest level, and back at the default one."""
    plain = [o for o in _where(mine, WHOLE) if not o.dictionary_bytes and o.threads == 1]
    first = max(plain, key=lambda o: o.compress.mb_per_cpu_s)
    back = _plain(mine, WHOLE, 3) or first
    name = f"{kind}, {WHOLE}: compress at the fastest level"
    return [
        _rate(name, kind, first, mine),
        _figure(
            f"{kind}, {WHOLE}: decompress", back.decompress.mb_per_cpu_s, "MB/CPU-s",
            "higher", reference.COMPRESSION_MB_PER_S.get(kind), back.decompress.other_mb_per_cpu_s,
            note=_cores(kind, back.decompress.mb_per_cpu_s, mine),
            samples=back.decompress.cpu_rates, by=how(back),
        ),
    ]  # fmt: skip


def _rate(name: str, kind: str, o: Outcome, mine: Sequence[Outcome]) -> Figure:
    return _figure(
        name, o.compress.mb_per_cpu_s, "MB/CPU-s", "higher",
        reference.COMPRESSION_MB_PER_S.get(kind), o.compress.other_mb_per_cpu_s,
        note=_cores(kind, o.compress.mb_per_cpu_s, mine), samples=o.compress.cpu_rates,
        by=f"{how(o)}, {o.saved:.1%} saved",
    )  # fmt: skip


def _cores(kind: str, rate: float, mine: Sequence[Outcome]) -> str | None:
    """How many cores the reference's speed would take, were they all as two were in this run."""
    wanted = reference.COMPRESSION_MB_PER_S.get(kind)
    gains = [o.gain.wall_share for o in _where(mine, WHOLE) if o.gain]
    if wanted is None or not gains:
        return None
    gain = median(gains)
    scaled = (
        f"{2 * wanted / rate / min(gain, 2.0):.3g} as two threads scaled ({gain:.2f} × one)"
        if gain > 1
        else f"how it scales is not known: two threads gave {gain:.2f} × one, so none was free"
    )
    return (
        f"the rate of one core; the reference's takes {wanted / rate:.3g} cores that are each as "
        f"fast; {scaled}."
    )


def _command(kind: str, mine: Sequence[Outcome]) -> list[Figure]:
    goal = 100 * reference.ZSTD_SHARE_GOAL
    return [
        _figure(
            f"{kind}, {o.cut}: compress, share of the zstd command", 100 * o.beside.share, "%",
            "higher", goal=goal, note="another version and build of zstd than the library's.",
            by=f"version {o.beside.command.version}, {how(o)}",
        )
        for o in mine if o.beside
    ]  # fmt: skip


def _same(kind: str, mine: Sequence[Outcome]) -> Figure:
    """Bytes that came back, of all that were compressed; a single other one ends the suite."""
    share = sum(o.equal_bytes for o in mine) / sum(o.size_bytes for o in mine)
    quality = _percent(reference.COMPRESSION_QUALITY.get(kind))
    name = f"{kind}: bytes equal after compression and back"
    return _figure(name, 100 * share, "%", "higher", quality, by=f"{len(mine)} methods")


def _high(outcomes: Sequence[Outcome]) -> list[Figure]:
    """How many content types save more than the goal by some method, and the fastest of them."""
    goal = reference.COMPRESSION_SAVED_GOAL
    above: dict[str, Outcome] = {}
    for o in outcomes:
        if o.saved > goal and (o.kind not in above or _speed(o) > _speed(above[o.kind])):
            above[o.kind] = o
    best = sorted((_best([o for o in outcomes if o.kind == k]) for k in _kinds(outcomes)),
                  key=lambda o: -o.saved)  # fmt: skip
    most = "; ".join(f"{o.kind} {o.saved:.1%} ({o.cut}, {how(o)})" for o in best)
    return [
        _figure(f"content types with over {goal:.0%} saved", len(above), "types", "higher",
                goal=reference.COMPRESSION_TYPES_GOAL, note=f"most saved: {most}."),
        *(
            _figure(f"{kind}: compress at over {goal:.0%} saved", _speed(o), "MB/CPU-s", "higher",
                    baseline=o.compress.other_mb_per_cpu_s, samples=o.compress.cpu_rates,
                    by=f"{o.cut}, {how(o)}, {o.saved:.1%}")
            for kind, o in above.items()
        ),
    ]  # fmt: skip


def _shares(outcomes: Sequence[Outcome]) -> list[Figure]:
    """Ours over plain zstd, each a ratio of times in one run; median of all types and methods."""
    found: list[Figure] = []
    for cut in CUTS:
        of_cut = _where(outcomes, cut)
        single = [o for o in of_cut if o.threads == 1]
        found += _share(f"{cut}: compress", [(o.compress.share, o) for o in single])
        double = [(o.compress.wall_share, o) for o in of_cut if o.threads > 1]
        found += _share(f"{cut}: compress, two threads", double)
        back = [(o.decompress.share, o) for o in single]
        found += _share(f"{cut}: decompress", back, f" Each frame takes {_more_us(single):.2f} µs "
                        "more: its head is checked before anything is allocated.")  # fmt: skip
    return found


def _share(name: str, shares: Sequence[tuple[float, Outcome]], note: str = "") -> list[Figure]:
    if not shares:
        return []
    worst, where = min(shares, key=lambda share: share[0])
    values = [100 * share for share, _ in shares]
    return [
        _figure(
            f"{name}, share of plain zstd's speed", median(values), "%", "higher",
            goal=100 * reference.ZSTD_SHARE_GOAL, spread=spread(values),
            note=f"median of {len(values)}; least {worst:.0%}: {where.kind}, {how(where)}.{note}",
        )
    ]  # fmt: skip


def _more_us(outcomes: Sequence[Outcome]) -> float:
    """Microseconds that reading a frame takes more than in plain zstd; median."""
    return median(
        (1 / o.decompress.mb_per_cpu_s - 1 / o.decompress.other_mb_per_cpu_s)
        * o.size_bytes / o.parts
        for o in outcomes
    )  # fmt: skip


def _types(outcomes: Sequence[Outcome], missing: Mapping[str, str]) -> Figure:
    why = "; ".join(f"{kind}: {what}" for kind, what in missing.items()) or None
    return _figure(
        "content types measured", len(_kinds(outcomes)), "types", "higher", len(KINDS), note=why
    )


def _where(outcomes: Iterable[Outcome], cut: str) -> list[Outcome]:
    return [o for o in outcomes if o.cut == cut]


def _best(outcomes: Sequence[Outcome]) -> Outcome:
    return max(outcomes, key=lambda o: (o.saved, _speed(o)))


def _plain(mine: Sequence[Outcome], cut: str, level: int) -> Outcome | None:
    """At this level without a dictionary, on one thread."""
    found = [o for o in _where(mine, cut) if o.level == level and not o.dictionary_bytes]
    return next((o for o in found if o.threads == 1), None)


def _same_method(a: Outcome, b: Outcome) -> bool:
    return how(a) == how(b) and a.learnt_level == b.learnt_level


def _kinds(outcomes: Sequence[Outcome]) -> list[str]:
    return [kind for kind in KINDS if any(o.kind == kind for o in outcomes)]


def _speed(o: Outcome) -> float:
    return o.compress.mb_per_cpu_s


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
