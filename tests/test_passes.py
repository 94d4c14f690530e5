"""Passes drop what has no meaning, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pcompiler.frontend import parse
from pcompiler.passes import deduplicate, normalize

RULE = "Refunds above 500 EUR need the approval of the shift lead."


def through(source: str) -> str:
    return deduplicate.run(normalize.run(parse(source))).messages[0].content


def test_whitespace_without_meaning_goes() -> None:
    assert normalize.run(parse("a  b \n\n\n\nc   d\t\n")).messages[0].content == "a b\n\nc d\n"


def test_code_and_tables_and_kept_parts_stay_byte_for_byte() -> None:
    code = "```\nx  =  1   \n\n\n\ny\n```\n"
    table = "| a   |  b |\n|---|---|\n| 1   |  2 |\n"
    kept = "<!-- pcompiler:keep -->\nTwo  blanks.   \n<!-- pcompiler:end -->\n"
    shown = normalize.run(parse(f"{code}\n{table}\n{kept}")).messages[0].content
    assert code in shown
    assert table in shown
    assert "Two  blanks.   \n" in shown


def test_a_repeated_paragraph_goes_once_it_has_been_said() -> None:
    shown = through(f"# A\n\n{RULE}\n\n# B\n\nOther text here, quite new.\n\n{RULE}\n")
    assert shown.count(RULE) == 1
    assert shown.index(RULE) < shown.index("# B")


def test_repetitions_that_mean_something_stay() -> None:
    fenced = f"{RULE}\n\n<!-- pcompiler:keep -->\n{RULE}\n<!-- pcompiler:end -->\n"
    assert through(fenced).count(RULE) == 2
    headings = "## Notes\n\nfirst thing\n\n## Notes\n\nsecond thing\n"
    assert through(headings).count("## Notes") == 2
    examples = "# Examples\n\nQ: is it open on Sundays now?\n\nQ: is it open on Sundays now?\n"
    assert through(examples).count("Q:") == 2


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(lambda t: "x" + t))
def test_passes_keep_the_source_and_every_word(source: str) -> None:
    prompt = parse(source)
    after = normalize.run(prompt)
    assert after.source == source
    if "<!--" not in source:
        assert after.messages[0].content.split() == prompt.messages[0].content.split()
    assert normalize.run(after) == after
