"""How RocksDB is set up, and what its errors mean to a user."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import rocksdict as rocks

from pcompiler.errors import DamageError, InputError, PcompilerError, StoreUnavailable

BLOCK_CACHE_BYTES = 256 * 2**20  # a handful of exact caches stay hot


def translated(error: Exception, path: Path) -> PcompilerError:
    """RocksDB raises bare exceptions: tell by their text what the user can do."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "lock hold" in text or "/LOCK" in text:
        return StoreUnavailable(
            f"another process is writing to the store {path}; wait for it, or use another --store."
        )
    if "No space left" in text:
        return StoreUnavailable(
            f"the disk of the store {path} is full; what was stored before is safe. "
            "Free some space, or use another --store."
        )
    if "Read-only" in text or "Permission denied" in text:
        return StoreUnavailable(
            f"the store {path} is not writable, which it has to be even to be read; "
            "use another --store, or copy it to a writable folder."
        )
    if isinstance(error, FileExistsError | NotADirectoryError):
        return InputError(f"the store {path} is not a folder; use another --store.")
    damaged = "Corruption" in text or "checksum" in text or (path / "CURRENT").exists()
    if damaged:
        return DamageError(f"the store {path} is damaged: {text}")
    return StoreUnavailable(f"cannot open the store {path}: {text}")


def options(compress: bool = True) -> Any:  # noqa: ANN401 - rocksdict has no stubs for it
    """Options of a database, or of one of its families."""
    chosen = rocks.Options(raw_mode=True)
    chosen.create_if_missing(True)
    chosen.create_missing_column_families(True)
    # Raises on a damaged log, where the default silently drops what follows the damage;
    # a torn tail, which a killed process leaves, still opens.
    chosen.set_wal_recovery_mode(rocks.DBRecoveryMode.tolerate_corrupted_tail_records())
    kind = rocks.DBCompressionType.zstd() if compress else rocks.DBCompressionType.none()
    chosen.set_compression_type(kind)
    table = rocks.BlockBasedOptions()
    table.set_block_cache(_block_cache())
    chosen.set_block_based_table_factory(table)
    chosen.set_keep_log_file_num(2)
    return chosen


@lru_cache(maxsize=1)
def _block_cache() -> Any:  # noqa: ANN401
    return rocks.Cache(BLOCK_CACHE_BYTES)  # one for the process, shared by its stores
