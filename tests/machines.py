"""Machines with a store each, that share one remote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bare import PROBES, PROMPT, artifact

from pcompiler.closing import Closing
from pcompiler.config import StoreConfig
from pcompiler.remote import opened, parcel
from pcompiler.remote.shared import Shared
from pcompiler.store.artifact import Artifact
from pcompiler.store.db import Store

# A process that stores three artifacts, says so, and then is there until it is killed.
KILLED = """
import os, sys; sys.path.insert(0, {tests!r})
from pathlib import Path
from bare import PROBES, PROMPT, artifact
from pcompiler.config import StoreConfig
from pcompiler.remote import opened
store = opened(StoreConfig(path={store!r}, remote={remote!r}))
for n in range(3):
    store.put(artifact(n), PROMPT, PROBES)
print("acknowledged", flush=True)
sys.stdin.read()
"""


class Machines(Closing):
    """Opens the store of a machine by its name; what is open is closed at the end."""

    def __init__(self, place: Path, url: str) -> None:
        self.place, self.url = place, url
        self._open: list[Shared] = []

    @property
    def folder(self) -> Path:
        """The remote, where it is a folder."""
        return self.place / "remote"

    def settings(self, name: str, **changes: object) -> StoreConfig:
        given: dict[str, object] = {"remote_absent_s": 0.0, "remote_close_s": 20.0}
        fields = {"path": str(self.place / name), "remote": self.url, **given, **changes}
        return StoreConfig(**fields)  # type: ignore[arg-type]

    def __call__(self, name: str, **changes: object) -> Shared:
        made = opened(self.settings(name, **changes))
        assert isinstance(made, Shared)
        self._open.append(made)
        return made

    @contextmanager
    def away(self) -> Iterator[None]:
        """The folder is not where it was, inside; neither can it be made."""
        kept = self.folder.rename(self.place / "away")
        self.folder.touch()
        yield
        self.folder.unlink()
        kept.rename(self.folder)

    def close(self) -> None:
        for store in self._open:
            store.close()


def put(store: Store, *numbers: int) -> None:
    for number in numbers:
        store.put(artifact(number), PROMPT, PROBES)


def id_of(number: int) -> str:
    return artifact(number).header.id


def object_of(folder: Path, stored: Artifact, kind: str = parcel.BODIES) -> Path:
    """Where a folder has a part of an artifact."""
    header = stored.header
    names = {parcel.BODIES: header.body_sha256, parcel.ARTIFACTS: header.id}
    return folder / parcel.path(kind, names.get(kind, header.prompt_hash))
