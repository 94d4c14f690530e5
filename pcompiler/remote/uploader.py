"""Sends what a store's journal has, one artifact after the other, for as long as it takes."""

from __future__ import annotations

import logging
import random
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from pcompiler import meter
from pcompiler.closing import Closing
from pcompiler.errors import DamageError, PcompilerError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 60.0  # after a failure, doubled with each one that follows
LAST_TRIES = 4  # failures one after the other, once it is to come to an end
log = logging.getLogger("pcompiler.remote")


class Uploader(Closing):
    """A thread that uploads, from when it is first told of something until it is closed.

    Args:
        send: uploads an artifact by id; raises PcompilerError, and DamageError where trying again
            is of no use.
        sent: called once it is uploaded, unless it has changed meanwhile.
        failed: called with an id and why, where it is to be tried again.
        changing: held by whoever calls ``add``, and around ``sent`` and ``failed``.
    """

    def __init__(
        self,
        send: Callable[[str], None],
        sent: Callable[[str], None],
        failed: Callable[[str, str], None],
        changing: threading.RLock,
    ) -> None:
        self._send, self._sent, self._failed, self._changing = send, sent, failed, changing
        self._todo: OrderedDict[str, None] = OrderedDict()
        self._now: str | None = None
        self._left: int | None = None  # failures, until it is at an end
        self._stopping = False
        self._more = threading.Condition()
        self._thread: threading.Thread | None = None
        meter.watch(self)

    def listen(self) -> None:
        """How many wait is said when it is asked for."""

    def report(self) -> None:
        """Say how many wait, until it ends."""
        with self._more:
            if not self._stopping:
                meter.gauge("remote_waiting", len(self._waiting))

    def add(self, artifact_id: str) -> None:
        """Upload it, or once more."""
        with self._more:
            self._todo[artifact_id] = None
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="uploader", daemon=True)
                self._thread.start()
            self._more.notify_all()

    def drop(self, artifact_id: str) -> None:
        """It was deleted."""
        with self._more:
            self._todo.pop(artifact_id, None)

    def finish(self, seconds: float) -> list[str]:
        """Come to an end: upload all, within so long and a few failures; returns what is left."""
        with self._more:
            self._left = LAST_TRIES
            self._more.notify_all()
        return self.flush(seconds)

    def flush(self, seconds: float) -> list[str]:
        """Wait until all is uploaded, for so long at most; returns ids of what is not."""
        with self._more:
            self._more.wait_for(self._at_an_end, seconds)
            return self._waiting

    def stop(self) -> None:
        """Begin nothing new."""
        with self._more:
            self._stopping = True
            self._more.notify_all()

    def close(self) -> None:
        """End; whoever closes breaks off first what ``send`` is at. Closing twice does nothing."""
        self.stop()
        if self._thread is not None:
            self._thread.join()
        meter.gauge("remote_waiting", 0)  # in this process; the journal has what is left

    def _at_an_end(self) -> bool:
        return self._stopping or self._left == 0 or not self._waiting

    @property
    def _waiting(self) -> list[str]:
        return [*([self._now] if self._now else []), *(i for i in self._todo if i != self._now)]

    def _run(self) -> None:
        failures = 0
        while (artifact_id := self._next()) is not None:
            failures = 0 if self._one(artifact_id) else failures + 1
            with self._more:
                self._now = None
                if failures and self._left:
                    self._left -= 1
                self._more.notify_all()
                if failures:
                    self._more.wait_for(lambda: self._stopping, _pause_s(failures))

    def _next(self) -> str | None:
        with self._more:
            self._more.wait_for(lambda: self._todo or self._stopping)
            if self._stopping:
                return None
            self._now = self._todo.popitem(last=False)[0]
            return self._now

    def _one(self, artifact_id: str) -> bool:
        """Whether it is uploaded, or given up."""
        try:
            self._send(artifact_id)
            with self._changing:
                if artifact_id not in self._todo:
                    self._sent(artifact_id)
            return True
        except Exception as e:  # whatever it is, it must not end the thread
            if not isinstance(e, PcompilerError):
                log.exception("uploading %s failed", artifact_id)
            return self._fail(artifact_id, e)

    def _fail(self, artifact_id: str, error: Exception) -> bool:
        if self._stopping:  # it was broken off
            return False
        useless = isinstance(error, DamageError)
        with self._changing:
            with suppress(PcompilerError):  # a full disk, say: the entry is there already
                self._failed(artifact_id, str(error))
            if not useless:
                with self._more:
                    self._todo.setdefault(artifact_id, None)
        return useless


def _pause_s(failures: int) -> float:
    """Longer each time, and not the same on all machines that a failing remote has."""
    longest = min(FIRST_PAUSE_S * 2.0 ** min(failures, 20), LONGEST_PAUSE_S)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
