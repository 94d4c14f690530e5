"""The checksum that ends every record: XXH3-64 of its key and value.

RocksDB has checksums over its blocks. This one is made before a record reaches RocksDB and
checked after it has come back, so it also sees what goes wrong between the two, and a record that
stands under another's key.
"""

from __future__ import annotations

from xxhash import xxh3_64, xxh3_64_digest

from pcompiler.errors import DamageError

SEAL_BYTES = 8
_LONG = 2**16  # from here on, copying a value costs more than another call


def seal(key: bytes, value: bytes) -> bytes:
    """The record of a value."""
    return value + _digest(key, value)


def unseal(key: bytes, record: bytes) -> bytes:
    """The value of a record. Raises DamageError: it is not what was sealed under this key."""
    value = record[:-SEAL_BYTES]
    if _digest(key, value) != record[-SEAL_BYTES:]:
        raise DamageError("its checksum does not match.")
    return value


def _digest(key: bytes, value: bytes) -> bytes:
    if len(value) < _LONG:
        return xxh3_64_digest(key + value)
    state = xxh3_64(key)
    state.update(value)
    return state.digest()
