"""How RocksDB is set up, and what its errors mean to a user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import rocksdict as rocks

from pcompiler.config import StoreConfig
from pcompiler.errors import DamageError, InputError, PcompilerError, StoreUnavailable

TRAINED_ON = 100  # zstd wants samples of so many times a dictionary's size


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """RocksDB's errors as ours, inside the block."""
    try:
        yield
    except Exception as e:
        raise translated(e, path) from e


def translated(error: Exception, path: Path) -> Exception:
    """What to raise for an error: RocksDB's are bare exceptions, told apart by their text."""
    if type(error) is not Exception and not isinstance(error, OSError):
        return error  # ours, or a mistake in the code: not RocksDB's
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "lock hold" in text or "/LOCK" in text:
        return StoreUnavailable(
            f"another process is writing to the store {path}; wait for it, or use another --store."
        )
    return _shortage(text, path) or _fault(error, text, path)


def _shortage(text: str, path: Path) -> PcompilerError | None:
    if "No space left" in text:
        return StoreUnavailable(
            f"the disk of the store {path} is full; what was stored before is safe. "
            "Free some space, or use another --store."
        )
    if "Too many open files" in text:
        return StoreUnavailable(
            f"the store {path} needs more open files than this process may have; what was stored "
            "before is safe. Raise the limit ('ulimit -n'), or close some."
        )
    if "Read-only" in text or "Permission denied" in text:
        return StoreUnavailable(
            f"the store {path} is not writable, which it has to be even to be read; "
            "use another --store, or copy it to a writable folder."
        )
    return None


def _fault(error: Exception, text: str, path: Path) -> PcompilerError:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return InputError(f"the store {path} is not a folder; use another --store.")
    if "Corruption" in text or "checksum" in text or (path / "CURRENT").exists():
        return DamageError(
            f"the store {path} is damaged: {text}. 'pcompiler store check' sets the damage aside."
        )
    return StoreUnavailable(f"cannot open the store {path}: {text}")


def options(settings: StoreConfig, compress: bool = True) -> Any:  # noqa: ANN401 - has no stubs
    """Options of a database, or of one of its families.

    Args:
        settings: of the [store] section.
        compress: false for records that are compressed already.
    """
    chosen = rocks.Options(raw_mode=True)
    chosen.create_if_missing(True)
    chosen.create_missing_column_families(True)
    # Raises on a damaged log, where the default silently drops what follows the damage;
    # a torn tail, which a killed process leaves, still opens.
    chosen.set_wal_recovery_mode(rocks.DBRecoveryMode.tolerate_corrupted_tail_records())
    chosen.set_write_buffer_size(settings.write_buffer_mb * 2**20)
    chosen.set_max_background_jobs(settings.background_jobs)
    chosen.set_keep_log_file_num(2)
    _compression(chosen, settings, compress)
    table = rocks.BlockBasedOptions()
    if settings.cache_mb:
        table.set_block_cache(_block_cache(settings.cache_mb * 2**20))
    else:
        table.disable_cache()
    table.set_block_size(settings.block_kb * 2**10)
    table.set_format_version(5)
    if settings.bloom_bits:
        table.set_bloom_filter(settings.bloom_bits, False)
        # Within the cache's limit, as they grow.
        table.set_cache_index_and_filter_blocks(settings.cache_mb > 0)
        table.set_pin_l0_filter_and_index_blocks_in_cache(settings.cache_mb > 0)
    chosen.set_block_based_table_factory(table)
    return chosen


def _compression(chosen: Any, settings: StoreConfig, compress: bool) -> None:  # noqa: ANN401
    kinds = rocks.DBCompressionType
    if not compress:
        chosen.set_compression_type(kinds.none())
        return
    chosen.set_compression_type(kinds.zstd())
    chosen.set_bottommost_compression_type(kinds.zstd())
    dictionary = settings.bottom_dictionary_kb * 2**10
    window, strategy = -14, 0  # zlib's, which zstd does not look at
    chosen.set_bottommost_compression_options(
        window, settings.bottom_level, strategy, dictionary, True
    )
    chosen.set_bottommost_zstd_max_train_bytes(TRAINED_ON * dictionary, True)


def uncached(settings: StoreConfig) -> StoreConfig:
    """For those who want to know what is on the disk, not what this process remembers of it."""
    return replace(settings, cache_mb=0)


def synced(settings: StoreConfig) -> Any:  # noqa: ANN401
    """Write options: whether the log is on the disk before a write is acknowledged."""
    chosen = rocks.WriteOptions()
    chosen.sync = settings.durability == "power"
    return chosen


@lru_cache(maxsize=4)
def _block_cache(size_bytes: int) -> Any:  # noqa: ANN401
    return rocks.Cache(size_bytes)  # one for the process, shared by its stores
