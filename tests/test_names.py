"""Names point at artifacts, remember where they pointed, and move all at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from bare import PROBES, PROMPT, artifact

from pcompiler.compiler import Compiler
from pcompiler.errors import InputError, NotFoundError, StoreUnavailable
from pcompiler.store.db import Store
from pcompiler.store.names import full_name

Cli = Callable[..., tuple[int, str, str]]
IDS = [artifact(number).header.id for number in range(5)]


@pytest.fixture
def filled(store: Store) -> Store:
    for number in range(5):
        store.put(artifact(number), PROMPT, PROBES)
    return store


def test_a_name_stands_for_what_it_points_at_and_remembers_what_it_did(filled: Store) -> None:
    for number in (0, 1, 1, 2):
        filled.point({"support": IDS[number]})
    assert filled.get("support") == filled.get("support:latest") == artifact(2)
    found = filled.names.get("support")
    assert [move.artifact for move in found.moves] == [IDS[0], IDS[1], IDS[2]]
    filled.point({"support:june": "support"})  # a name for what another name points at
    filled.point({"support": IDS[3]})
    assert filled.header("support:june").id == IDS[2]
    assert [name.name for name in filled.names.all()] == ["support:june", "support:latest"]


def test_names_move_together_or_not_at_all(filled: Store) -> None:
    filled.point({"a": IDS[0], "b": IDS[0]})
    with pytest.raises(NotFoundError):
        filled.point({"a": IDS[1], "b": "feedfeed"})
    with pytest.raises(InputError):
        filled.point({"a": IDS[1], "b/c": IDS[1]})
    assert {filled.header(name).id for name in ("a", "b")} == {IDS[0]}


@pytest.mark.parametrize(
    "name", ["", "-a", "a b", "a/b", "..", "a:b:c", "é", "cafe", "0" * 24, "a" * 65]
)
def test_what_cannot_be_a_name_is_refused(filled: Store, name: str) -> None:
    with pytest.raises(InputError, match="cannot be a name"):
        full_name(name)
    assert filled.names.find(name) is None


def test_what_a_pinned_name_points_at_is_not_deleted(filled: Store) -> None:
    filled.point({"support": IDS[0]})
    filled.names.pin("support", True)
    with pytest.raises(StoreUnavailable, match="pinned as support:latest"):
        filled.delete(IDS[0])
    assert filled.get(IDS[0]) == artifact(0)
    filled.names.pin("support", False)
    filled.delete(IDS[0])
    with pytest.raises(NotFoundError, match="no longer"):
        filled.get("support")
    assert [move.artifact for move in filled.names.get("support").moves] == [IDS[0], None]
    filled.names.remove("support")
    with pytest.raises(NotFoundError, match="neither"):
        filled.get("support")


def test_each_version_of_a_named_prompt_has_the_one_before_for_its_parent(
    compiler: Compiler,
) -> None:
    first = compiler.compile("The workshop opens at nine on all days.", name="desk")
    second = compiler.compile("The workshop opens at ten on all days.", name="desk")
    again = compiler.compile("The workshop opens at nine on all days.", name="desk")
    assert (first.header.parent, second.header.parent) == (None, first.id)
    assert (again.id, again.cached, again.header.parent) == (first.id, True, None)
    moves = compiler.store.names.get("desk").moves
    assert [move.artifact for move in moves] == [first.id, second.id, first.id]
    with compiler.session("desk") as session:
        assert session.generate("When?", max_tokens=3) is not None


def test_the_commands_show_a_names_history_and_how_versions_differ(
    cli: Cli, tmp_path: Path
) -> None:
    for hour in ("nine", "ten"):
        (tmp_path / "p.md").write_text(f"The workshop opens at {hour}. It is shut on Sundays.")
        assert cli("compile", tmp_path / "p.md", "--name", "desk")[0] == 0
    code, out, _ = cli("store", "log", "desk", "--json")
    newest, oldest = json.loads(out)["log"]
    assert (code, newest["deleted"], newest["artifact"] != oldest["artifact"]) == (0, False, True)
    assert "prompt changed" in cli("store", "log", "desk")[1]
    code, out, _ = cli("store", "log", newest["artifact"], "--json")  # by its parents
    assert [step["artifact"] for step in json.loads(out)["log"]] == [
        newest["artifact"],
        oldest["artifact"],
    ]
    code, out, _ = cli("store", "diff", oldest["artifact"], "desk", "--json")
    parts = json.loads(out)["prompt"]
    assert ["-", "nine"] in parts
    assert ["+", "ten"] in parts
    assert "[-nine-]{+ten+}" in cli("store", "diff", oldest["artifact"], "desk")[1]
    assert cli("store", "tag", oldest["artifact"][:8], "desk:first", "old")[0] == 0
    assert cli("store", "pin", "old")[0] == 0
    assert cli("store", "delete", "old")[0] == 2
    names = json.loads(cli("store", "names", "--json")[1])["names"]
    assert {n["name"]: n["pinned"] for n in names} == {
        "desk:first": False,
        "desk:latest": False,
        "old:latest": True,
    }
    assert cli("store", "unpin", "old")[0] == 0
    assert cli("store", "untag", "old")[0] == 0
    assert cli("store", "untag", "old")[0] == 2
    assert cli("run", "desk:first", "Hi", "--max-tokens", 3)[0] == 0
    assert cli("compile", tmp_path / "p.md", "--name", "a/b")[0] == 2
