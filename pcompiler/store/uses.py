"""When each artifact was last loaded: a file beside RocksDB, which readers may add to as well."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

USES = "USES"
FOLD_BYTES = 2**20
_LINE = b"%s %d\n"


class Uses:
    """The last uses of a store's artifacts.

    Each use is one short line, appended at once, so that processes do not disturb each other. It
    is a hint for eviction and no more: what cannot be written, or read, is passed over.

    Args:
        folder: the store's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / USES

    def note(self, artifact_id: str) -> None:
        """It is used now."""
        with suppress(OSError):
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(handle, _LINE % (artifact_id.encode(), time.time()))
            finally:
                os.close(handle)

    def last(self) -> dict[str, int]:
        """By id: seconds since 1970."""
        found: dict[str, int] = {}
        with suppress(OSError):
            for line in self._path.read_bytes().splitlines():
                name, _, at = line.partition(b" ")
                if at.isdigit() and len(at) < 16:
                    key = name.decode(errors="replace")
                    found[key] = max(found.get(key, 0), int(at))
        return found

    def fold(self) -> None:
        """Keep the last use of each artifact only, once the file has grown."""
        with suppress(OSError):
            if self._path.stat().st_size > FOLD_BYTES:
                draft = self._path.with_suffix(".new")
                draft.write_bytes(b"".join(_LINE % (k.encode(), t) for k, t in self.last().items()))
                draft.replace(self._path)
