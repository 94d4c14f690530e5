"""Progress bars: on a terminal, for what takes over two seconds; silent when piped.

A program that shows progress in its own way listens to them instead.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

DELAY_S = 1.0  # a bar that appears only to vanish is noise
Listener = Callable[[str, int, int], None]
"""Takes a stage's label, how much of it is done, and its total, or 0 where that is not known.

What it raises ends the work, as Ctrl-C would.
"""
_listener: ContextVar[Listener | None] = ContextVar("progress", default=None)
_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


def _shown() -> bool:
    return sys.stderr.isatty() and not _hidden.get()


@contextmanager
def heard(listener: Listener) -> Iterator[None]:
    """Inside, in this thread, all bars tell this listener how far they are."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def hidden() -> Iterator[None]:
    """Inside, in this thread, no bar is shown or heard: there is one over all of it."""
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


class _Bar(tqdm):  # type: ignore[type-arg]
    """A bar that is listened to; hidden, tqdm itself would not count."""

    def __init__(self, listener: Listener, total: int, label: str, **settings: Any) -> None:  # noqa: ANN401
        self._listener, self._label, self._parts, self._done = listener, label, total, 0
        super().__init__(total=total, desc=label, **settings)
        self.update(0)

    def update(self, n: float | None = 1) -> bool | None:
        self._done += int(n or 0)
        self._listener(self._label, self._done, self._parts)
        return super().update(n)


def bar(total: int, label: str, unit: str = "it", **looks: Any) -> Any:  # noqa: ANN401
    """A tqdm bar with our manners; how it looks is said as tqdm takes it."""
    listener, disable = _listener.get(), not _shown()
    settings: dict[str, Any] = {"unit": unit, "delay": DELAY_S, "leave": False, "disable": disable}
    settings |= looks
    if listener is not None and not _hidden.get():
        return _Bar(listener, total, label, **settings)
    return tqdm(total=total, desc=label, **settings)


@contextmanager
def waiting(label: str) -> Iterator[None]:
    """A line on a terminal while something runs that has no parts to count."""
    shown = _shown()
    if shown:
        tqdm.write(f"{label} …", file=sys.stderr, end="\r")
    try:
        yield
    finally:
        if shown:
            tqdm.write(" " * (len(label) + 2), file=sys.stderr, end="\r")


def stages(label: str, steps: Sequence[tuple[str, Callable[[], object]]]) -> None:
    """Run named steps in order, with a bar over them."""
    with tqdm(total=len(steps), desc=label, disable=not _shown()) as shown:
        for name, step in steps:
            shown.set_postfix_str(name)
            step()
            shown.update()


@contextmanager
def layers(model: Any, label: str, passes: int = 1) -> Iterator[None]:  # noqa: ANN401
    """A bar that moves as forward passes of a transformers model go through its blocks."""
    blocks = model.model.layers
    with bar(passes * len(blocks), label, "layer") as shown:

        def tick(*_: object) -> None:
            shown.update()

        hooks = [block.register_forward_hook(tick) for block in blocks]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide transformers' own bars and warnings for a while; its settings are put back."""
    from huggingface_hub.utils import logging as hub_log
    from transformers.utils import logging as log

    before, hub_before, bars = (
        log.get_verbosity(),
        hub_log.get_verbosity(),
        log.is_progress_bar_enabled(),
    )
    log.set_verbosity(logging.ERROR)
    hub_log.set_verbosity(logging.ERROR)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        hub_log.set_verbosity(hub_before)
        if bars:
            log.enable_progress_bar()
