"""A store with a remote behind it: it reads through, and writes back."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from pcompiler import meter
from pcompiler.config import StoreConfig
from pcompiler.errors import DamageError, MismatchError, NotFoundError, RemoteError
from pcompiler.remote import parcel
from pcompiler.remote.bucket import Bucket
from pcompiler.remote.parcel import BEGINNING, WHOLE_ID, Parcel
from pcompiler.remote.reader import Reader
from pcompiler.remote.uploader import Uploader
from pcompiler.store.artifact import Artifact, Header
from pcompiler.store.db import Store
from pcompiler.store.engine import Change
from pcompiler.store.uploads import Upload, uploads

log = logging.getLogger("pcompiler.remote")


def peeked(name: str, settings: StoreConfig) -> Parcel | None:
    """An artifact of the settings' remote, by id or its beginning; it is not kept."""
    with Bucket(settings.remote, settings.remote_timeout_s) as bucket:
        return Reader(bucket, 0.0).fetch(name) if BEGINNING.fullmatch(name) else None


class Shared(Store):
    """A store, open for writing, whose artifacts a remote has as well.

    What is not here is fetched, verified, put here and returned. What is put here is acknowledged,
    and then uploaded: what cannot be is tried again, here and whenever the store is next opened
    with this remote. Deleting, evicting and names are this store's own affair.

    Args:
        path: the store's folder.
        settings: of the [store] section; ``remote`` is not empty.

    Attributes:
        bucket: the remote.
    """

    def __init__(self, path: Path, settings: StoreConfig) -> None:
        self.bucket = Bucket(settings.remote, settings.remote_timeout_s)
        super().__init__(path, "write", settings)
        self._reader = Reader(self.bucket, settings.remote_absent_s)
        self._uploader = Uploader(self._send, self._sent, self._failed, self._changing)
        self._closed = False
        self._replaced: set[str] = set()  # whose bytes there are known to be damaged
        self.noted = self._noted
        for waiting in self.waiting():
            self._uploader.add(waiting.artifact)

    def close(self) -> None:
        """Upload what waits, as far as ``remote_close_s`` goes, and let go of everything."""
        if self._closed:
            return
        self._closed = True
        left = self._uploader.finish(self.settings.remote_close_s)
        self._uploader.stop()
        self.bucket.close()
        self._uploader.close()
        super().close()
        if left:
            log.warning(
                "not in %s yet: %s%s. The store remembers, and tries again when it is next opened "
                "to be written with this remote ('pcompiler store push').",
                *(self.bucket.url, ", ".join(left[:3]), " …" if len(left) > 3 else ""),
            )

    def find(self, artifact_id: str) -> Header | None:
        """The header with exactly this id, or nothing.

        A remote that fails, or has something else there, is passed over with a warning: what is
        compiled anew takes its place.
        """
        found = super().find(artifact_id)
        if found is not None:
            return found
        try:
            return self._fetched(artifact_id)
        except (RemoteError, DamageError, MismatchError) as e:
            log.warning("%s", e)
            if isinstance(e, DamageError):
                self._replaced.add(artifact_id)
            return None

    def header(self, name: str) -> Header:
        """The header of what has this name or id, or the only one whose id begins so.

        Raises:
            NotFoundError: neither here nor there, or several.
            DamageError, MismatchError: what is there was refused, and not stored.
            RemoteError: it is not here, and whether it is there cannot be told.
        """
        try:
            return super().header(name)
        except NotFoundError:
            several = any(True for _ in self.records.scan("artifacts", name.encode()))
            if several or not BEGINNING.fullmatch(name):
                raise
            fetched = self._fetched(name)
            if fetched is None:
                raise
            return fetched

    def put(self, artifact: Artifact, source: str, probes: str, fitting: str = "") -> None:
        """Store an artifact here, and upload it from now on; see ``Store.put``."""
        with self._changing:
            super().put(artifact, source, probes, fitting)

    def point(self, targets: Mapping[str, str]) -> None:
        """Point names at artifacts, which are fetched first where need be; see ``Store.point``."""
        for target in targets.values():
            self.header(target)  # nobody waits for a remote while the store is being changed
        super().point(targets)

    def annotate(self, header: Header) -> None:
        """Replace the header of an artifact that is here; the remote's as well."""
        with self._changing:
            super().annotate(header)

    def delete(self, artifact_id: str, everywhere: bool = False) -> None:
        """Remove an artifact from here, and from the remote if told so.

        Raises:
            StoreUnavailable: a pinned name points at it.
            RemoteError: it went from here, and could not be removed from the remote.
        """
        try:
            artifact_id = Store.header(self, artifact_id).id
            super().delete(artifact_id)
        except NotFoundError:
            if not everywhere or not WHOLE_ID.fullmatch(artifact_id):
                raise
        self._uploader.drop(artifact_id)
        if everywhere:
            self.bucket.run(parcel.forget(self.bucket, artifact_id))
            self._reader.absent.add(artifact_id)

    def waiting(self) -> Iterator[Upload]:
        """What the remote does not have yet, in order of id."""
        return uploads(self.records, self.bucket.url)

    def push(self, artifact_id: str, replace: bool = False) -> None:
        """Upload an artifact now.

        Args:
            artifact_id: of one that is here.
            replace: also what the remote seems to have already.

        Raises:
            NotFoundError, DamageError: it is not here, or not whole.
            RemoteError: no answer, or a refusal.
        """
        header = Store.header(self, artifact_id)
        if replace:
            self._replaced.add(header.id)
        self._send(header.id)
        with self._changing:
            self._sent(header.id)
            self._uploader.drop(header.id)

    def flush(self, seconds: float) -> list[str]:
        """Wait for uploads, for so long at most; returns ids of what the remote does not have."""
        return self._uploader.flush(seconds)

    def _fetched(self, name: str) -> Header | None:
        """Fetch what has this id, or begins so, and put it here; see ``Reader.fetch``."""
        found = self._reader.fetch(name)
        if found is None:
            return None
        header = found.artifact.header
        with self._changing:
            if super().find(header.id) is None:  # else others, who waited with us, have done so
                self.keep(found.artifact, list(found.texts))
        return header

    def _noted(self, artifact_id: str) -> list[Change]:
        """Called with ``_changing`` held, by whoever writes the change next."""
        self._uploader.add(artifact_id)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return [Upload(artifact_id, self.bucket.url, now).change]

    def _send(self, artifact_id: str) -> None:
        start, result = time.perf_counter(), "failed"
        try:
            result = "done" if self._uploaded(artifact_id) else "gone"
        except DamageError:  # of what is here
            result = "given_up"
            raise
        finally:
            if result != "gone":
                meter.observe("remote_upload_seconds", time.perf_counter() - start, result=result)

    def _uploaded(self, artifact_id: str) -> bool:
        """Whether it is there now; else it was deleted here meanwhile."""
        with self._changing:  # what is being written is written
            packed = parcel.packed(self, artifact_id)
        if packed is None:
            return False
        again = artifact_id in self._replaced
        self.bucket.run(parcel.send(self.bucket, packed, replace=again))
        self._replaced.discard(artifact_id)
        return True

    def _sent(self, artifact_id: str) -> None:
        self.records.write([Upload(artifact_id, self.bucket.url, "").done])
        self._reader.absent.discard(artifact_id)

    def _failed(self, artifact_id: str, why: str) -> None:
        record = self.records.get("uploads", artifact_id.encode())
        if record is None:  # deleted meanwhile
            return
        known = Upload.decode(artifact_id, record)
        if not known.attempts:
            log.warning("artifact %s was not uploaded: %s It is tried again.", artifact_id, why)
        self.records.write([replace(known, attempts=known.attempts + 1, why=why).change])
