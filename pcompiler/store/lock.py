"""One writer a store: a lock on the folder itself, which no one can delete, and who holds it."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from pcompiler.errors import StoreUnavailable

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

HOLDER = "HOLDER"  # names the writer; RocksDB leaves files alone that it does not know


class Lock:
    """The right to write to a folder, from here until ``release`` or the end of the process.

    RocksDB's own lock is a file: delete it, and two writers damage each other's work. Where there
    are no locks on folders (Windows, some network disks), that one is all there is.

    Args:
        folder: an existing folder.

    Raises:
        StoreUnavailable: another writer has it; says which.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handle: int | None = None
        if fcntl is not None:
            self._handle = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._handle)
                raise StoreUnavailable(
                    f"another process is writing to the store {folder}: {holder(folder)}. "
                    "Wait for it, or use another --store."
                ) from None
            except OSError:  # a file system without such locks: RocksDB's has to do
                pass
        with suppress(OSError):  # a courtesy, which a full disk does not allow
            (folder / HOLDER).write_text(json.dumps(_me()), encoding="utf-8")

    def release(self) -> None:
        """Let others write; releasing twice does nothing."""
        if self._handle is not None:
            with suppress(OSError):  # not there, or the disk has become read-only
                (self._folder / HOLDER).unlink()
            os.close(self._handle)
            self._handle = None


def holder(folder: Path) -> str:
    """Who last took the lock, in words."""
    try:
        known = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return (
            f"process {int(known['pid'])} ({known['program']}) on {known['host']}, "
            f"since {known['since']}"
        )
    except (OSError, ValueError, TypeError, KeyError):
        return "it has not left its name"


def _me() -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "program": " ".join((Path(sys.argv[0]).name, *sys.argv[1:2])),  # no more: may be secret
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
