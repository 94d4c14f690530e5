"""Chats with a scheduler, for tests: asked, told, and watched step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import torch
from conftest import endless

from pcompiler.closing import Closing
from pcompiler.compiler import Compiler
from pcompiler.config import Config, ProbeConfig, StoreConfig
from pcompiler.model import LanguageModel
from pcompiler.runtime import batch
from pcompiler.serve import scheduler as scheduling
from pcompiler.serve.contract import ChatRequest, End, Message, Piece
from pcompiler.serve.prefixes import Prefixes
from pcompiler.serve.scheduler import Scheduler
from pcompiler.serving import ServeConfig

PROMPT = "You are the desk of a workshop. It opens at nine and closes at five."
WAYS: dict[str, dict[str, Any]] = {
    "kv": {"target": "kv"},
    "compacted": {"target": "kv", "factor": 4.0},
    "hybrid": {"target": "hybrid", "factor": 3.0, "strength": 1.0},
    "weights": {"target": "weights", "strength": 1.0},
    "text": {"target": "text"},
}
WAIT_S = 60


def chat(text: str = "When?", artifact: str | None = None, **settings: Any) -> ChatRequest:
    return ChatRequest([Message("user", text)], artifact, **settings)


class Asking:
    """A chat and what it was told."""

    def __init__(self, scheduler: Scheduler, request: ChatRequest) -> None:
        self.items: Queue[Piece | End | Exception] = Queue()
        self.generation = scheduler.submit(request, self.items.put)

    def result(self) -> tuple[str, End]:
        said = ""
        while not isinstance(item := self.items.get(timeout=WAIT_S), End):
            if isinstance(item, Exception):
                raise item
            said += item.text
        return said, item


class Watched:
    """What each step read, by length; a step may be made to wait or to fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[list[int]] = []
        self.before: Callable[[], None] = lambda: None
        monkeypatch.setattr(scheduling, "forward", self._forward)

    def _forward(self, model: LanguageModel, feeds: Sequence[batch.Feed]) -> torch.Tensor:
        self.before()
        self.steps.append([len(feed.tokens) for feed in feeds])
        return batch.forward(model, feeds)


@contextmanager
def every_way(folder: Path) -> Iterator[Compiler]:
    """A store with an artifact of each kind, under the kind's name; answers never end by itself."""
    config = Config(
        probes=ProbeConfig(self_study=3, fitting=18, query_tokens=8, answer_tokens=6),
        store=StoreConfig(path=str(folder / "store")),
    )
    with Compiler(model=endless(), config=config) as compiler:
        for name, settings in WAYS.items():
            compiler.compile(PROMPT, name=name, **settings)
        yield compiler


class Make(Closing):
    """Makes schedulers over the store of a compiler, and closes them."""

    def __init__(self, compiled: Compiler) -> None:
        self._compiled = compiled
        self._made: list[tuple[Scheduler, Prefixes]] = []

    def __call__(
        self, start: bool = True, model: LanguageModel | None = None, **settings: Any
    ) -> Scheduler:
        serve, model = ServeConfig(**settings), model or self._compiled.model
        folder, limit = self._compiled.config.store.folder, serve.prefix_cache_mb * 2**20
        prefixes = Prefixes(model, folder, StoreConfig(), limit)
        scheduler = Scheduler(model, prefixes, serve)
        if start:
            scheduler.start()
        self._made.append((scheduler, prefixes))
        return scheduler

    def close(self) -> None:
        for scheduler, prefixes in self._made:
            if scheduler._thread.is_alive():
                scheduler.close()
            prefixes.close()
