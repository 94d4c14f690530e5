"""``pcompiler serve`` as users start it: the real model from a prompt to a streamed answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from pcompiler.store.db import Store

ROOT = Path(__file__).parent.parent
SOURCE = (
    "You are the desk of a bicycle shop in Leiden. We open at nine and close at six, and on "
    "Sundays we are closed. A repair takes two days. Answer in one short sentence."
)
QUESTION: Any = [{"role": "user", "content": "When do you open?"}]
READY_S = 120.0


@contextmanager
def running(store: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, once everything answers; ended whatever happens."""
    command = [sys.executable, "-m", "pcompiler", "serve", "--port", "0", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, "--store", str(store), *options],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "it did not start"
            url = json.loads(line)["url"]
            until_ready(url)
            yield process, url
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


def until_ready(url: str) -> None:
    end = time.monotonic() + READY_S
    with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
        while client.get(f"{url}/readyz", timeout=30).status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.2)


@pytest.mark.model
def test_a_prompt_becomes_answers_by_id_and_tag_and_is_not_sent_again(tmp_path: Path) -> None:
    with running(tmp_path / "store") as (process, url):
        made = httpx.post(
            f"{url}/v1/compile",
            json={"source": SOURCE, "name": "desk:june", "queries": ["Are you open on Sunday?"]},
            timeout=300,
        )
        assert made.status_code == 200, made.text
        artifact = made.json()["artifact"]
        header = httpx.get(f"{url}/v1/artifacts/{artifact}").json()
        assert header["fidelity"]["agreement"] == 1
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            name = client.models.list().data[0].id
            assert name == "smollm2"
            said = set()
            for model in (f"{name}@{artifact}", f"{name}@desk:june", "desk:june"):
                done = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=24)
                said.add(done.choices[0].message.content)
                assert done.usage is not None
                details = done.usage.prompt_tokens_details
                assert details is not None
                assert details.cached_tokens == header["context_tokens"]
                chunks = client.chat.completions.create(
                    model=model, messages=QUESTION, max_tokens=24, stream=True
                )
                said.add("".join(c.choices[0].delta.content or "" for c in chunks))
            alone = client.chat.completions.create(model=name, messages=QUESTION, max_tokens=24)
        assert len(said) == 1
        assert "Leiden" in str(said)  # which only the prompt tells
        assert alone.choices[0].message.content not in said
        assert httpx.delete(f"{url}/v1/artifacts/{artifact}").status_code == 204
        assert httpx.get(f"{url}/v1/artifacts/{artifact}").status_code == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with Store(tmp_path / "store", "read") as store:
        assert list(store.headers()) == []


def test_a_small_model_is_served_by_processes_that_come_back_when_they_are_killed(
    model_folder: Path, tmp_path: Path
) -> None:
    options = ("--model", str(model_folder), "--device", "cpu", "--workers", "2")
    with running(tmp_path / "store", *options) as (process, url):
        body = {"source": SOURCE, "name": "desk", "queries": ["When?"]}
        artifact = httpx.post(f"{url}/v1/compile", json=body, timeout=300).json()["artifact"]
        chat = {"model": "desk", "messages": QUESTION, "max_tokens": 4}
        first = httpx.post(f"{url}/v1/chat/completions", json=chat, timeout=60)
        assert first.status_code == 200, first.text
        for victim in ("generator", "compiler"):
            later = {"source": SOURCE, "target": "hybrid", "wait": False}
            jobs = [
                httpx.post(f"{url}/v1/compile", json=later, timeout=60).json()["id"]
                for _ in range(3 * (victim == "compiler"))
            ]
            os.kill(process_of(process.pid, victim), signal.SIGKILL)
            assert httpx.get(f"{url}/v1/artifacts/{artifact}").status_code == 200
            asked = {"source": "Another one than the desk's.", "queries": ["When?"]}
            path, json_ = (
                ("/v1/chat/completions", chat) if victim == "generator" else ("/v1/compile", asked)
            )
            away = httpx.post(f"{url}{path}", json=json_, timeout=60)
            assert away.status_code in (200, 503)
            if away.status_code == 503:
                assert int(away.headers["retry-after"]) >= 1
            until_ready(url)
            assert httpx.post(f"{url}{path}", json=json_, timeout=300).status_code == 200
        lost = httpx.get(f"{url}/v1/jobs/{jobs[-1]}", timeout=60).json()
        assert (lost["status"], lost["error"]["status"]) == ("failed", 503)
        again = httpx.post(f"{url}/v1/chat/completions", json=chat, timeout=60)
        assert again.json()["choices"] == first.json()["choices"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with Store(tmp_path / "store", "read") as store:
        assert store.header("desk").id
        assert len(list(store.headers())) == 2


def test_a_process_that_hangs_hangs_no_request(model_folder: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[serve]\nchat_s = 1.0\n")
    options = ("--model", str(model_folder), "--device", "cpu", "--config", str(settings))
    with running(tmp_path / "store", *options) as (process, url):
        body = {"source": SOURCE, "name": "desk", "queries": ["When?"]}
        artifact = httpx.post(f"{url}/v1/compile", json=body, timeout=300).json()["artifact"]
        generator = process_of(process.pid, "generator")
        os.kill(generator, signal.SIGSTOP)
        try:
            chat = {"model": "desk", "messages": QUESTION, "max_tokens": 4}
            for stream in (False, True):
                start = time.monotonic()
                asked = chat | {"stream": stream}
                hung = httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=60)
                assert hung.status_code == 503
                assert hung.headers["retry-after"]
                assert time.monotonic() - start < 15
            assert httpx.get(f"{url}/readyz", timeout=30).status_code == 503
            assert httpx.get(f"{url}/v1/artifacts/{artifact}").status_code == 200
        finally:
            os.kill(generator, signal.SIGCONT)
        until_ready(url)


def test_a_process_that_hangs_is_started_anew_and_what_it_did_fails_clearly(
    model_folder: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[serve]\nhang_s = 3.0\n")
    options = ("--model", str(model_folder), "--device", "cpu", "--config", str(settings))
    with running(tmp_path / "store", *options) as (process, url):
        generator = process_of(process.pid, "generator")
        time.sleep(2)  # until the supervisor has heard of it
        os.kill(generator, signal.SIGSTOP)
        name = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
        chat = {"model": name, "messages": QUESTION, "max_tokens": 4}
        hung = httpx.post(f"{url}/v1/chat/completions", json=chat, timeout=60)
        assert hung.status_code == 503
        assert hung.headers["retry-after"]
        until_ready(url)
        assert process_of(process.pid, "generator") != generator
        again = httpx.post(f"{url}/v1/chat/completions", json=chat, timeout=60)
        assert again.status_code == 200


def process_of(parent: int, name: str) -> int:
    """The process of this name, a child of the server's."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            ppid = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if ppid == parent and name.encode() in words:
            return int(path.name)
    raise AssertionError(f"no {name} of {parent}")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--host", "0.0.0.0"), "--api-key-file"),
        (("--port", "70000"), "port"),
        (("--workers", "0"), "workers"),
        (("--api-key-file", "nowhere"), "nowhere"),
        (("--host", "192.0.2.1", "--api-key-file", "KEYS"), "cannot listen"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("alice:0123456789abcdef\n")
    keys.chmod(0o600)
    code, _, err = cli("serve", *(str(keys) if word == "KEYS" else word for word in options))
    assert code == 2
    assert words in err


def test_a_port_that_is_taken_is_told_of(cli: Callable[..., tuple[int, str, str]]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = cli("serve", "--port", taken.getsockname()[1])
    assert code == 2
    assert "cannot listen" in err
