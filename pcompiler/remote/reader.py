"""Reads through to a bucket: each artifact once at a time, and a bucket in trouble not for long."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from concurrent.futures import Future

from pcompiler import meter
from pcompiler.errors import (
    DamageError,
    MismatchError,
    NotFoundError,
    PcompilerError,
    RemoteError,
)
from pcompiler.remote import parcel
from pcompiler.remote.bucket import Bucket
from pcompiler.remote.parcel import WHOLE_ID, Parcel

REMEMBERED = 10_000  # answers that something is not there
RESULTS: dict[type[Exception], str] = {  # of reading, as metrics tell them
    NotFoundError: "miss",  # several begin so
    DamageError: "refused",
    MismatchError: "refused",
}


class Absent:
    """What was not there a moment ago. May be shared by threads.

    Args:
        seconds: for how long that is taken for granted.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: OrderedDict[str, float] = OrderedDict()
        self._changing = threading.Lock()

    def __contains__(self, name: str) -> bool:
        return self._until.get(name, 0.0) > time.monotonic()

    def add(self, name: str) -> None:
        """It is not there now; what was asked for first is forgotten first."""
        with self._changing:
            self._until[name] = time.monotonic() + self._seconds
            self._until.move_to_end(name)
            while len(self._until) > REMEMBERED:
                self._until.popitem(last=False)

    def discard(self, name: str) -> None:
        """It may be there."""
        with self._changing:
            self._until.pop(name, None)


class Reader:
    """What a bucket has, by id or by the beginning of one. May be shared by threads.

    Whoever asks for what another is just fetching waits for that. What is not there is not asked
    for again for a while, and nothing at all is, for as long, once the bucket has failed.

    Args:
        bucket: where from.
        absent_s: for how long.
    """

    def __init__(self, bucket: Bucket, absent_s: float) -> None:
        self._bucket, self._absent_s = bucket, absent_s
        self.absent = Absent(absent_s)
        self._under_way: dict[str, Future[Parcel | None]] = {}
        self._changing = threading.Lock()
        self._down: tuple[float, str] = (0.0, "")  # until when, and why

    def fetch(self, name: str) -> Parcel | None:
        """An artifact by its id, or the beginning of one; nothing where there is none.

        Raises:
            NotFoundError: several begin so.
            DamageError, MismatchError: it was refused; see ``parcel.fetch``.
            RemoteError: no answer, or a refusal, now or a moment ago.
        """
        if name in self.absent:
            return None
        until, why = self._down
        if until > time.monotonic():
            raise RemoteError(f"{why} It is not asked again for a moment.")
        with self._changing:
            waiting = self._under_way.get(name)
            if waiting is None:
                mine = self._under_way[name] = Future[Parcel | None]()
        if waiting is not None:
            return waiting.result()
        try:
            mine.set_result(self._fetched(name))
        except BaseException as e:
            mine.set_exception(e)
            raise
        finally:
            del self._under_way[name]
        return mine.result()

    def _fetched(self, name: str) -> Parcel | None:
        start, result = time.perf_counter(), "failed"
        try:
            found = self._asked(name)
            result = "miss" if found is None else "hit"
            return found
        except PcompilerError as e:
            result = RESULTS.get(type(e), "failed")
            if isinstance(e, RemoteError):
                self._down = time.monotonic() + self._absent_s, str(e)
            raise
        finally:
            meter.observe("remote_read_seconds", time.perf_counter() - start, result=result)

    def _asked(self, name: str) -> Parcel | None:
        run, bucket = self._bucket.run, self._bucket
        whole = name if WHOLE_ID.fullmatch(name) else run(parcel.whole_id(bucket, name))
        found = None if whole is None else run(parcel.fetch(bucket, whole))
        if found is None:
            self.absent.add(name)
        return found
