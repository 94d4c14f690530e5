"""The journal of uploads: artifacts that a remote does not have yet.

An entry is written in the batch that stores its artifact, and goes when the remote has it: a
process may be killed at any moment in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pcompiler.errors import DamageError
from pcompiler.store.engine import Change
from pcompiler.store.records import Records

FAMILY = "uploads"


@dataclass(frozen=True)
class Upload:
    """An artifact that waits.

    Attributes:
        artifact: its id.
        remote: where it is to go.
        since: ISO 8601, UTC.
        attempts: how often it has failed.
        why: how it failed last, in words.
    """

    artifact: str
    remote: str
    since: str
    attempts: int = 0
    why: str = ""

    def encode(self) -> bytes:
        """Its record."""
        fields = {key: value for key, value in vars(self).items() if key != "artifact"}
        return json.dumps(fields, ensure_ascii=False).encode()

    @classmethod
    def decode(cls, key: str, record: bytes) -> Upload:
        """Undo ``encode``. Raises DamageError."""
        try:
            fields = json.loads(record)
            where, since, why = (str(fields[name]) for name in ("remote", "since", "why"))
            return cls(key, where, since, int(fields["attempts"]), why)
        except (ValueError, TypeError, KeyError) as e:
            raise DamageError(f"upload {key} does not read as one: {e!r}.") from None

    @property
    def change(self) -> Change:
        """What writes it down."""
        return (FAMILY, self.artifact.encode(), self.encode())

    @property
    def done(self) -> Change:
        """What crosses it out."""
        return (FAMILY, self.artifact.encode(), None)


def uploads(records: Records, remote: str) -> Iterator[Upload]:
    """Those that wait for this remote, in order of id."""
    for key, record in records.scan(FAMILY):
        found = Upload.decode(key.decode(), record)
        if found.remote == remote:
            yield found
