"""What is protected, class by class; what an unclosed fence is not."""

from __future__ import annotations

import pytest

from pcompiler.frontend import parse
from pcompiler.ir import Kind, Prompt
from pcompiler.passes import deduplicate, protect


def without_near(prompt: Prompt) -> Prompt:
    return deduplicate.run(prompt, deduplicate.near(prompt))


def found(text: str, name: str) -> list[str]:
    prompt = parse(text)
    spans = protect.find(prompt, [name]).spans([name])
    return [s.text[a:b] for s, of in zip(prompt.segments, spans, strict=True) for a, b in of]


@pytest.mark.parametrize(
    ("name", "text", "spans"),
    [
        ("placeholders", "Dear {{ name }}, {city}, ${HOME}.", ["{{ name }}", "{city}", "${HOME}"]),
        ("placeholders", "{% if x %} <|im_end|> [NAME]", ["{% if x %}", "<|im_end|>", "[NAME]"]),
        ("code", "Run `make test` now.", ["`make test`"]),
        ("urls", "See https://a.zz/b?c=1#d or x@y.zz.", ["https://a.zz/b?c=1#d", "x@y.zz"]),
        ("numbers", "It is 30 EUR, 4.5 km, −3 °C or 12 %.", ["30 EUR", "4.5 km", "−3 °C", "12 %"]),
        ("numbers", "On 2024-07-01 at 8:30, $1,490.50.", ["2024-07-01", "8:30", "$1,490.50"]),
        ("negations", "Do not share it. They don't reply.", ["not share it", "don't reply"]),
        ("negations", "No refunds without a receipt.", ["No refunds without"]),
        ("identifiers", "E04, a_b, getName, ISO-90.", ["E04", "a_b", "getName", "ISO-90"]),
        ("identifiers", "Read /etc/hosts, #12, src/main.py.", ["/etc/hosts", "#12", "src/main.py"]),
        ("quotes", 'He said "so it is" and “that too”.', ['"so it is"', "“that too”"]),
    ],
)  # fmt: skip
def test_each_class_finds_its_own(name: str, text: str, spans: list[str]) -> None:
    assert found(text, name) == spans


def test_json_yaml_and_fenced_code_are_protected_whole() -> None:
    data = '{"a": [1, 2],\n "b": null}'
    assert found(f"Words.\n\n{data}\n", "data") == [data + "\n"]
    yaml = "server:\n  host: a.example\n  port: 80\n  tags:\n    - x\n"
    assert found(yaml, "data") == [yaml]
    assert found("Customer: hi\nAgent: hello\nCustomer: bye\n", "data") == []
    code = "```python\nx = 1\n```\n"
    assert found(f"Words.\n\n{code}", "code") == [code]


def test_prose_after_a_fence_that_is_never_closed_is_no_code() -> None:
    source = "Intro.\n\n```python\nx = 1\n\n# Rules\n\nYou must answer briefly.\n\n- one\n- two\n"
    prompt = parse(source)
    assert "".join(s.source for s in prompt.segments) == source
    assert Kind.CODE not in [s.kind for s in prompt.segments]
    assert Kind.LIST in [s.kind for s in prompt.segments]
    closed = parse("```\nx\n\n\ny\n```\n\nAfter.\n")
    assert closed.segments[0].kind is Kind.CODE


def test_repetitions_in_other_words_differ_by_what_counts() -> None:
    rule = "Customers can send a bicycle back within {} days of delivery."
    other = "Within {} days after it was delivered, a customer can send back a bicycle."
    same = parse(f"{rule.format(30)}\n\n{rule.format(30)[:-1]}\n\nMore words here now.\n")
    assert without_near(same).messages[0].content.count("bicycle") == 1
    differ = parse(f"{rule.format(30)}\n\n{rule.format(14)}\n\n{other.format(60)}\n")
    assert without_near(differ) == differ
    lock = "lock the door of the workshop at night please, whoever is the last to leave.\n"
    negated = parse(f"Always {lock}\nNever {lock}")
    assert without_near(negated) == negated


def test_a_heading_goes_with_all_that_stood_under_it() -> None:
    rule = "Refunds above 500 EUR need the approval of the shift lead."
    source = (
        f"# A\n\n{rule}\n\n# B\n\n## C\n\n{rule}\n\n# D\n\nNew words stand here, quite a few.\n"
    )
    shown = deduplicate.run(parse(source)).messages[0].content
    assert "# B" not in shown
    assert "## C" not in shown
    assert "# D" in shown
    cue = f"# A\n\n{rule}\n\n# Answer:\n"
    assert deduplicate.run(parse(cue)).messages[0].content.endswith("# Answer:\n")
