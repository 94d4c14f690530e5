"""Commands of stores that share a remote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from bare import PROBES, PROMPT, artifact
from machines import Machines, id_of, object_of, put

from pcompiler.remote import opened
from pcompiler.store.db import Store

Cli = Callable[..., tuple[int, str, str]]


def last(out: str) -> dict[str, object]:
    value: dict[str, object] = json.loads(out.strip().splitlines()[-1])
    return value


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    path = tmp_path / "prompt.md"
    path.write_text("You are the desk of a workshop.\n\nIt opens at nine and closes at five.\n")
    return path


def test_what_is_compiled_here_runs_elsewhere_by_its_id(
    cli: Cli, prompt: Path, machines: Machines, tmp_path: Path
) -> None:
    remote = ("--remote", machines.url)
    code, out, err = cli("compile", prompt, *remote, "--json")
    assert (code, err) == (0, "")
    made = str(last(out)["artifact"])
    elsewhere = ("--store", tmp_path / "elsewhere")
    code, _, err = cli("run", made, "When?", *elsewhere)
    assert (code, "no store" in err) == (2, True)
    code, out, err = cli("run", made[:8], "When?", "--max-tokens", 4, *elsewhere, *remote, "--json")
    assert (code, err, last(out)["id"]) == (0, "", made)
    code, out, _ = cli("verify", made, *elsewhere)  # it is there now, with prompt and probes
    assert (code, "fidelity  ok" in out) == (0, True)
    code, out, _ = cli("store", "show", made, "--prompt", "--store", tmp_path / "c", *remote)
    assert (code, out.strip()) == (0, prompt.read_text().strip())


def test_beside_another_writer_what_comes_from_the_remote_is_used_and_not_kept(
    cli: Cli, prompt: Path, machines: Machines, tmp_path: Path
) -> None:
    _, out, _ = cli("compile", prompt, "--remote", machines.url, "--json")
    made = str(last(out)["artifact"])
    with Store(tmp_path / "busy") as busy:
        put(busy, 1)
        given = ("--store", tmp_path / "busy", "--remote", machines.url)
        code, out, _ = cli("run", made, "When?", "--max-tokens", 4, *given, "--json")
        assert (code, last(out)["id"]) == (0, made)
        assert busy.find(made) is None
        code, _, err = cli("run", "f" * 24, "When?", *given)
        assert (code, "another process is writing" in err) == (2, True)


def test_push_uploads_what_the_remote_does_not_have(
    cli: Cli, machines: Machines, tmp_path: Path
) -> None:
    with Store(tmp_path / "store") as alone:
        put(alone, 1, 2, 3)
    with machines("other") as other:
        put(other, 2)
    remote = ("--remote", machines.url)
    code, out, _ = cli("store", "push", id_of(1), *remote, "--json")
    assert (code, last(out)["pushed"]) == (0, [id_of(1)])
    code, out, _ = cli("store", "push", *remote, "--json")
    assert (code, last(out)["pushed"]) == (0, [id_of(3)])
    assert last(cli("store", "push", *remote, "--json")[1])["pushed"] == []
    with machines("other") as other:
        assert [other.get(id_of(n)) for n in (1, 2, 3)] == [artifact(n) for n in (1, 2, 3)]


def test_push_mends_what_is_damaged_there(cli: Cli, machines: Machines, tmp_path: Path) -> None:
    with Store(tmp_path / "store") as alone:
        put(alone, 1)
    remote = ("--remote", machines.url)
    cli("store", "push", *remote)
    body = object_of(machines.folder, artifact(1))
    body.write_bytes(bytes(len(artifact(1).body)))
    code, out, _ = cli("store", "pull", *remote, "--store", tmp_path / "b", "--json")
    assert code == 3
    assert f"store push {id_of(1)} --replace" in str(last(out)["refused"])
    assert cli("store", "push", id_of(1), "--replace", *remote)[0] == 0
    code, out, _ = cli("store", "pull", *remote, "--store", tmp_path / "b", "--json")
    assert (code, last(out)["pulled"]) == (0, [id_of(1)])


def test_pull_fetches_what_is_named_or_all(cli: Cli, machines: Machines, tmp_path: Path) -> None:
    with machines("other") as other:
        put(other, 1, 2)
        other.put(artifact(3, id="abc" + "0" * 21), PROMPT, PROBES)
    remote = ("--remote", machines.url)
    code, out, _ = cli("store", "pull", "abc0", *remote)
    assert (code, "1 artifacts" in out) == (0, True)
    assert cli("store", "pull", *remote)[0] == 0
    with Store(tmp_path / "store", "read") as store:
        assert [header.id for header in store.headers()] == sorted(
            [*map(id_of, (1, 2)), "abc" + "0" * 21]
        )


def test_remote_tells_what_is_there_and_what_waits(cli: Cli, machines: Machines) -> None:
    remote = ("--remote", machines.url)
    with machines("other") as other:
        put(other, 1)
    store = opened(machines.settings("store", remote_close_s=0.0))
    with machines.away():
        put(store, 2)
        store.close()
    code, out, _ = cli("store", "remote", *remote, "--list")
    assert code == 0
    assert "1 artifacts, 0 of them here" in out or "2 artifacts, 1 of them here" in out
    assert id_of(1) in out
    assert last(cli("store", "remote", *remote, "--json")[1]) == {
        "remote": machines.url,
        "artifacts": [id_of(1), id_of(2)],
        "here": 1,
        "waiting": [],
    }


def test_delete_is_of_this_store_unless_told(cli: Cli, machines: Machines) -> None:
    remote = ("--remote", machines.url)
    with machines("store") as store:
        put(store, 1)
    assert cli("store", "delete", id_of(1), *remote)[0] == 0
    assert cli("store", "pull", id_of(1), *remote)[0] == 0
    code, out, _ = cli("store", "delete", id_of(1), "--everywhere", *remote)
    assert (code, machines.url in out) == (0, True)
    code, _, err = cli("store", "pull", id_of(1), *remote)
    assert (code, "no artifact has the id" in err) == (2, True)


@pytest.mark.parametrize("command", [("push",), ("pull",), ("remote",), ("sweep",)])
def test_without_a_remote_these_commands_ask_for_one(cli: Cli, command: tuple[str]) -> None:
    code, _, err = cli("store", *command)
    assert (code, "--remote URL" in err) == (2, True)
    code, _, err = cli("store", *command, "--remote", "ftp://x/y")
    assert (code, "s3://" in err) == (2, True)


def test_deleting_everywhere_needs_a_remote(cli: Cli, machines: Machines) -> None:
    with machines("store") as store:
        put(store, 1)
    code, _, err = cli("store", "delete", id_of(1), "--everywhere")
    assert (code, "--remote" in err) == (2, True)
