"""Names that point at artifacts, and where they pointed before.

``support`` is short for ``support:latest``: a name, and which of its states. Pointing elsewhere is
one record written in one batch, so a reader sees the old artifact or the new one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from pcompiler.errors import DamageError, InputError, NotFoundError
from pcompiler.store.engine import Change
from pcompiler.store.records import Records

MAX_MOVES = 1_000  # older ones are forgotten
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(:[A-Za-z0-9][A-Za-z0-9._-]{0,63})?")
_LIKE_ID = re.compile(r"[0-9a-f]{4,24}")
_FAMILY = "names"


@dataclass(frozen=True)
class Move:
    """A name was pointed at an artifact, or at none."""

    at: str  # ISO 8601, UTC
    artifact: str | None


@dataclass(frozen=True)
class Name:
    """A name.

    Attributes:
        name: with its tag, as in support:latest.
        moves: where it pointed, newest last.
        pinned: what it points at is not evicted, and not deleted.
    """

    name: str
    moves: tuple[Move, ...] = ()
    pinned: bool = False

    @property
    def artifact(self) -> str | None:
        """Id of what it points at."""
        return self.moves[-1].artifact if self.moves else None

    def encode(self) -> bytes:
        """Its record."""
        moves = [[move.at, move.artifact] for move in self.moves]
        return json.dumps({"pinned": self.pinned, "moves": moves}).encode()

    @classmethod
    def decode(cls, name: str, record: bytes) -> Name:
        """Undo ``encode``. Raises DamageError."""
        try:
            fields = json.loads(record)
            moves = tuple(Move(str(at), artifact) for at, artifact in fields["moves"])
            return cls(name, moves, bool(fields["pinned"]))
        except (ValueError, TypeError, KeyError) as e:
            raise DamageError(f"the record of the name {name} does not read as one: {e}.") from None


def full_name(name: str) -> str:
    """With the tag that is meant. Raises InputError: it cannot be a name."""
    if not _NAME.fullmatch(name) or _LIKE_ID.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be a name: letters, digits, '.', '_' and '-', 64 at most, and a tag "
            "like that behind a colon if need be; not what could be an artifact's id."
        )
    return name if ":" in name else f"{name}:latest"


class Names:
    """The names in a store."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def find(self, name: str) -> Name | None:
        """The name, if it is there; what cannot be a name is not."""
        if not _NAME.fullmatch(name) or _LIKE_ID.fullmatch(name):
            return None
        key = full_name(name)
        record = self._records.get(_FAMILY, key.encode())
        return None if record is None else Name.decode(key, record)

    def get(self, name: str) -> Name:
        """The name. Raises NotFoundError."""
        found = self.find(name)
        if found is None:
            raise NotFoundError(f"no artifact is called {name!r}; see 'pcompiler store names'.")
        return found

    def all(self) -> Iterator[Name]:
        """All names, in order."""
        for key, record in self._records.scan(_FAMILY):
            yield Name.decode(key.decode(), record)

    def of(self, artifact: str) -> list[Name]:
        """The names that point at an artifact."""
        return [name for name in self.all() if name.artifact == artifact]

    def pointed(self, targets: Mapping[str, str | None]) -> list[Change]:
        """The changes that point names at artifacts: to be written with what belongs to them."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        changed = []
        for key, artifact in ((full_name(name), artifact) for name, artifact in targets.items()):
            known = self.find(key) or Name(key)
            if known.artifact != artifact:
                moves = (*known.moves, Move(now, artifact))[-MAX_MOVES:]
                changed.append(replace(known, moves=moves))
        return [(_FAMILY, name.name.encode(), name.encode()) for name in changed]

    def pin(self, name: str, pinned: bool) -> Name:
        """Keep what the name points at from eviction, or no longer. Raises NotFoundError."""
        known = replace(self.get(name), pinned=pinned)
        self._records.write([(_FAMILY, known.name.encode(), known.encode())])
        return known

    def remove(self, name: str) -> Name:
        """Forget a name and its history; the artifact stays. Raises NotFoundError."""
        known = self.get(name)
        self._records.write([(_FAMILY, known.name.encode(), None)])
        return known
