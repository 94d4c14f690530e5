"""Where a compile leaves what it has made: a store, or the memory of a process that has none."""

from __future__ import annotations

from typing import Protocol

from pcompiler.errors import NotFoundError
from pcompiler.store.artifact import Artifact, Header


class Artifacts(Protocol):
    """What a compile asks of a store; see ``store.db.Store``, which is one."""

    def find(self, artifact_id: str) -> Header | None:
        """The header with exactly this id, or nothing."""
        ...

    def get(self, name: str) -> Artifact:
        """The artifact."""
        ...

    def put(self, artifact: Artifact, source: str, probes: str, fitting: str = "") -> None:
        """Keep an artifact with what it came from."""
        ...

    def annotate(self, header: Header) -> None:
        """Replace the header of an artifact that is here."""
        ...

    def delete(self, artifact_id: str) -> None:
        """Remove an artifact."""
        ...


class Shelf:
    """Room for artifacts in memory, for a process that may not write to the store.

    Attributes:
        texts: by id, the held-out probes and those fitted on, as JSON lines.
    """

    def __init__(self) -> None:
        self._artifacts: dict[str, Artifact] = {}
        self.texts: dict[str, tuple[str, str]] = {}

    def find(self, artifact_id: str) -> Header | None:
        """See ``Artifacts``."""
        found = self._artifacts.get(artifact_id)
        return None if found is None else found.header

    def get(self, name: str) -> Artifact:
        """See ``Artifacts``. Raises NotFoundError."""
        if name not in self._artifacts:
            raise NotFoundError(f"no artifact has the id {name!r} here.")
        return self._artifacts[name]

    def put(self, artifact: Artifact, source: str, probes: str, fitting: str = "") -> None:  # noqa: ARG002 - who asked has the source
        """See ``Artifacts``."""
        self._artifacts[artifact.header.id] = artifact
        self.texts[artifact.header.id] = probes, fitting

    def annotate(self, header: Header) -> None:
        """See ``Artifacts``."""
        self._artifacts[header.id] = Artifact(header, self.get(header.id).body)

    def delete(self, artifact_id: str) -> None:
        """See ``Artifacts``."""
        self._artifacts.pop(artifact_id, None)
        self.texts.pop(artifact_id, None)
