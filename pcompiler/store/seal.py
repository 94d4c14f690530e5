"""The checksum that ends every record: XXH3-64 of its value, seeded with that of its key.

RocksDB has checksums over its blocks. This one is made before a record reaches RocksDB and
checked after it has come back, so it also sees what goes wrong between the two, and a record that
stands under another's key.
"""

from __future__ import annotations

from xxhash import xxh3_64_digest, xxh3_64_intdigest

from pcompiler.errors import DamageError

SEAL_BYTES = 8


def seal(key: bytes, value: bytes) -> bytes:
    """The record of a value."""
    return value + xxh3_64_digest(value, xxh3_64_intdigest(key))


def unseal(key: bytes, record: bytes) -> bytes:
    """The value of a record. Raises DamageError: it is not what was sealed under this key."""
    value = record[:-SEAL_BYTES]
    if xxh3_64_digest(value, xxh3_64_intdigest(key)) != record[-SEAL_BYTES:]:
        raise DamageError("its checksum does not match.")
    return value
