"""The HTML report: self-contained, harmless, complete, and its charts say what the numbers say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benches import write_report
from pcompiler.bench import archive
from pcompiler.bench.calibration import Calibration
from pcompiler.bench.harness import Figure
from pcompiler.bench.history import History, ordered
from pcompiler.bench.html.axis import Axis, around
from pcompiler.bench.html.page import Report, html, index
from pcompiler.bench.html.quantity import number, quantity, ratio
from pcompiler.bench.html.scores import times_as_good
from pcompiler.bench.runs import Part, Run

STEADY = Calibration((1.0,), (1.0,))
VOID = {"meta", "br"}  # of those we write
FIGURES = (
    Figure("a", "quick enough", 0.5, "s", "lower", 1.0, spread=0.1, samples=(0.4, 0.5, 0.6)),
    Figure("a", "far quicker", 0.001, "s", "lower", 1.0, baseline=0.01),
    Figure("a", "too slow", 2.0, "s", "lower", 1.0, note="bounded by physics"),
    Figure("b", "many more", 300.0, "1/s", "higher", 100.0),
    Figure("b", "<script>alert('&')</script>", 3.0, "bytes", "lower", 2.0, note="<img src=x>"),
    Figure("b", "no reference", 3.0, "bytes", "lower", baseline=4.0),
)


class Page(HTMLParser):
    """What a browser would find: tags in order, words, and whatever it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        # HTML lets the end of an item, a row or a paragraph go unsaid; we do not.
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def a_run(
    figures: tuple[Figure, ...] = FIGURES, hardware: str = "a machine", **other: object
) -> Run:
    parts = tuple(
        Part(suite, 1.5, STEADY, STEADY) for suite in dict.fromkeys(f.suite for f in figures)
    )
    run = Run(figures, parts, hardware, "cpu", None, "2026-01-01T00:00:00+00:00", 3.0, False, 2)
    return replace(run, **other)  # type: ignore[arg-type]


def written(run: Run, *kept: tuple[str, Run], results: Path = Path("/no/such/folder")) -> str:
    return html(Report(run, "this one", History(ordered(kept)), results))


def place(text: str, label: str) -> float:
    """Where a figure's mark lies in its strip, in per cent."""
    circle = rf'cx="([\d.]+)%"[^>]*><title>{label}:'
    diamond = rf'<svg x="([\d.]+)%"[^>]*><path class="hollow"[^>]*><title>{label}:'
    found = re.search(f"{circle}|{diamond}", text)
    assert found, label
    return float(found[1] or found[2])


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    text = written(a_run(), results=write_report.ROOT / "benches" / "results")
    page = Page(text)
    assert page.open == []
    loading = ("src", "srcset", "href", "data", "action", "xlink:href", "poster")
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "image", "use", "base")
        for name in loading:
            assert (attributes.get(name) or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert "http:" not in text
    assert "https:" not in text


def test_whatever_a_run_says_is_text_and_never_markup() -> None:
    hostile = "<script>alert(1)</script>\"'>"
    run = a_run(hardware=hostile, commit=hostile, version=hostile)
    page = Page(html(Report(run, hostile, History(ordered([(hostile, run)])), Path("/none"))))
    assert all(tag not in ("script", "img") for tag, _ in page.tags)
    assert "<script>alert('&')</script>" in page.text
    listed = Page(index(History(ordered([(hostile, run)])), Path("/none")))
    assert all(tag != "script" for tag, _ in listed.tags)


def test_every_figure_is_there_with_its_value() -> None:
    text = Page(written(a_run())).text
    for figure in FIGURES:
        assert figure.name in text
        assert quantity(figure.value, figure.unit).replace("\xa0", " ") in text


def test_counts_are_those_of_the_figures_and_every_miss_has_its_reason() -> None:
    text = written(a_run())
    assert Page(text).text.count("pcompiler reaches 3 of 5 published figures and misses 2") == 1
    assert "bounded by physics" in Page(text).text
    assert "<img src=x>" in Page(text).text
    assert "misses it too" in written(a_run((replace(FIGURES[2], note=None, baseline=3.0),)))
    assert "misses it too" not in written(a_run((replace(FIGURES[2], note=None, baseline=0.3),)))
    goes_on = replace(FIGURES[2], name="… of it", note=None)
    assert Page(written(a_run((FIGURES[2], goes_on)))).text.count("bounded by physics") == 4
    silent = a_run((replace(FIGURES[2], note=None),))
    assert "The run records no reason." in written(silent)
    assert "reaches 1 of 1 published figures" in Page(written(a_run((FIGURES[0],)))).text


def test_better_lies_further_right_whatever_the_direction() -> None:
    text = written(a_run())
    assert (
        place(text, "a: too slow") < place(text, "a: quick enough") < place(text, "a: far quicker")
    )
    one = re.search(r'class="one" x1="([\d.]+)%"', text)
    assert one
    assert place(text, "a: too slow") < float(one[1]) < place(text, "a: quick enough")
    higher = (replace(FIGURES[3], name="less", value=150.0), replace(FIGURES[3], name="more"))
    text = written(a_run(higher))
    assert place(text, "b: less") < place(text, "b: more")


def test_a_ratio_says_how_many_times_as_good() -> None:
    lower, higher = FIGURES[0], FIGURES[3]
    assert times_as_good(lower, 0.5, 1.0) == 2
    assert times_as_good(higher, 50.0, 100.0) == 0.5
    assert times_as_good(lower, 0.0, 1.0) == float("inf")
    assert times_as_good(lower, -1.0, 1.0) is None
    assert times_as_good(lower, 1.0, None) is None
    assert (ratio(7.714), ratio(0.789), ratio(0.1), ratio(1 / 219)) == (
        "7.71×",
        "0.789×",
        "1/10",
        "1/219",
    )
    assert ratio(0.9999) != "1×"  # a miss never looks like none


def test_figures_without_a_ratio_are_shown_all_the_same() -> None:
    odd = (
        Figure("a", "nothing at all", 0.0, "bytes", "lower", 5.0),
        Figure("a", "below nothing", -1.0, "nats", "lower", 5.0),
        Figure("a", "nothing left", 0.0, "1/s", "higher", 5.0, note="why"),
    )
    page = Page(written(a_run(odd)))
    assert "reaches 2 of 3" in page.text
    assert all(figure.name in page.text for figure in odd)


def test_a_run_of_any_suites_says_what_it_has_not() -> None:
    page = Page(written(a_run((FIGURES[5],))))
    assert "No figure of this run has a published reference" in page.text
    for missing in ("timed no single calls", "No convergence study", "No results of the fidelity"):
        assert missing in page.text
    assert "No results of the semantic ladder" in page.text
    assert "only kept run" in page.text


def test_a_drifted_suite_is_named() -> None:
    drifted = replace(a_run(), parts=(
        Part("a", 1.5, STEADY, STEADY), Part("b", 1.0, STEADY, Calibration((1.5,), (1.5,))),
    ))  # fmt: skip
    assert "changed while these ran: B (50 %)" in Page(written(drifted)).text
    assert "steady" in Page(written(a_run())).text


def test_only_runs_of_the_same_machine_are_joined() -> None:
    elsewhere, quick = a_run(hardware="another machine"), a_run(quick=True)
    text = written(a_run(), ("elsewhere", elsewhere), ("quick", quick))
    assert '<div class="spark">' not in text
    assert "not joined to these: elsewhere, quick" in Page(text).text
    older = a_run((replace(FIGURES[0], value=0.8),), started="2025-01-01T00:00:00+00:00")
    text = written(a_run(), ("elsewhere", elsewhere), ("older", older))
    sparks = text.split('<div class="spark">')[1:]
    assert len(sparks) == 1  # the one figure that both have
    assert sparks[0].count("<title>") == 2
    assert "800 ms" in Page(sparks[0].split("</div></div>")[0]).text
    assert "60 % better" in sparks[0]
    assert "elsewhere" not in sparks[0].split("</div></div>")[0]


def test_versions_are_compared_by_their_newest_run() -> None:
    stored = Figure("storage_performance", "put", 0.5, "s", "lower", 1.0)
    old = a_run((stored,), version="0.9.0", started="2025-01-01T00:00:00+00:00")
    new = a_run((replace(stored, value=0.25),), version="0.10.0")
    table = written(new, ("old", old)).split("By version")[1]
    assert table.index("0.9.0") < table.index("0.10.0")
    assert "2×" in table
    assert "4×" in table
    assert "not measured" in table


def test_latencies_are_histograms_where_the_run_kept_them() -> None:
    p50 = Figure("a", "put, p50", 1e-5, "s", "lower", baseline=1e-5)
    p99 = Figure("a", "put, p99", 1e-4, "s", "lower", baseline=2e-4)
    assert "saved without histograms" in written(a_run((p50, p99)))
    counted = replace(p50, histogram=((9e-6, 90), (9e-5, 10)), baseline_histogram=((8e-6, 100),))
    text = written(a_run((counted, p99)))
    assert text.count('<rect class="bar" x="') == 2 + 1  # and one in the legend
    assert "100 calls" in Page(text).text
    assert "saved without histograms" not in text


def test_histograms_outlive_the_archive_and_older_runs_have_none(tmp_path: Path) -> None:
    counted = replace(FIGURES[0], histogram=((0.4, 2), (0.5, 1)))
    archive.write(a_run((counted,)), tmp_path / "new.json")
    assert archive.read(tmp_path / "new.json").figures == (counted,)
    data = json.loads((tmp_path / "new.json").read_text())
    data["schema"] = 2
    for name in ("histogram", "baseline_histogram", "goal", "by"):
        del data["figures"][0][name]
    (tmp_path / "old.json").write_text(json.dumps(data))
    old = archive.read(tmp_path / "old.json")
    assert old.figures[0].histogram == ()
    assert "quick enough" in written(old)


@pytest.mark.parametrize(("low", "high"), [(1e-6, 2e-6), (1e-6, 1.0), (0.3, 7.0), (1e-3, 1e9)])
def test_axes_are_monotone_and_have_a_few_ticks(low: float, high: float) -> None:
    for axis in (Axis(low, high, number), Axis(low, high, number, log=False)):
        values = [low + (high - low) * n / 100 for n in range(101)]
        places = [axis.at(value) for value in values]
        assert places == sorted(places)
        assert (places[0], places[-1]) == (0, 100)
        assert axis.at(low / 10) == 0
        assert axis.at(high * 10) == 100
        assert 1 <= len(axis.ticks) <= 8
        assert [at for at, _ in axis.ticks] == sorted({at for at, _ in axis.ticks})


def test_an_axis_around_values_holds_them_and_stands_zeros() -> None:
    axis = around([3.0, 50.0, 0.0], number)
    assert axis.holds(3)
    assert axis.holds(50)
    assert around([], number).low > 0


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (6.486e-6, "s", "6.49 µs"), (0.00999, "s", "9.99 ms"), (0.9999, "s", "1 s"),
        (139.7, "s", "140 s"), (3e-8, "s", "30 ns"), (0.0, "s", "0 ns"),
        (130980.25, "1/s", "131,000 /s"), (11909339.0, "bytes", "11.9 MB"), (74.49, "%", "74.5 %"),
        (44.47, "MB/cpu s", "44.5 MB/CPU-s"), (3.0, "", "3"),
        (-0.25, "nats/token", "-0.25 nats/token"),
        (1e-9, "nats/token", "1e-09 nats/token"), (7.7, "×", "7.7×"),
    ],
)  # fmt: skip
def test_quantities_read_as_people_write_them(value: float, unit: str, shown: str) -> None:
    assert quantity(value, unit).replace("\xa0", " ") == shown


def test_the_script_writes_the_page_and_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(write_report, "REPORTS", tmp_path / "reports")
    archive.write(a_run(), tmp_path / "one.json")
    assert write_report.main([str(tmp_path / "one.json"), "--html"]) == 0
    assert "reaches" in (tmp_path / "reports" / "one.html").read_text()
    assert Page((tmp_path / "reports" / "index.html").read_text()).open == []
    assert write_report.main([str(tmp_path / "one.json"), "--html", "--out", "-"]) == 0
    assert "<!doctype html>" in capsys.readouterr().out
