"""Checks how RocksDB's journals are cut up, since RocksDB trusts one of their fields too far.

MANIFEST-* and *.log are blocks of 32 KiB, each filled with fragments:

    masked CRC-32C (4 bytes) | length n (2) | type (1): whole, first, middle or last | n bytes

RocksDB takes some damaged heads for what a killed process leaves, and silently drops all that
follows: one flipped bit in a log made a store of six artifacts read as empty. A MANIFEST that was
cut short it takes for a younger one, and deletes the tables that it does not mention; so we keep
a note of how long it was. Most other damage it finds by its checksums.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from pcompiler.errors import DamageError

LENGTHS = "LENGTHS"  # our note; RocksDB leaves files alone that it does not know
BLOCK = 32 * 2**10
_HEAD = struct.Struct("<IHB")
_TYPES = range(1, 5)
_CRC_POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected
_MASK = 0xA282EAD8


def remember(folder: Path) -> None:
    """Note how long the list of files (MANIFEST) is: it only ever grows."""
    draft = folder / f"{LENGTHS}.new"
    with suppress(OSError):  # a full disk, or no file left; the note of before still holds
        lengths = {path.name: path.stat().st_size for path in folder.glob("MANIFEST-*")}
        draft.write_text(json.dumps(lengths), encoding="utf-8")
        draft.replace(folder / LENGTHS)


def check(folder: Path) -> None:
    """Check every journal of a database.

    Raises:
        DamageError: a fragment whose length or type is not what was written, or a MANIFEST that
            is shorter than it was.
    """
    for name, length in _remembered(folder).items():
        path = folder / name
        if path.is_file() and path.stat().st_size < length:
            raise DamageError(f"the store {folder} is damaged: {name} was cut short.")
    for path in (*folder.glob("MANIFEST-*"), *folder.glob("*.log")):
        try:
            damaged = _damage(path)
        except FileNotFoundError:  # a writer beside us is done with it
            continue
        if damaged is not None:
            raise DamageError(
                f"the store {folder} is damaged: {path.name} does not read on from byte {damaged}."
            )


def _remembered(folder: Path) -> dict[str, int]:
    try:
        noted = json.loads((folder / LENGTHS).read_text(encoding="utf-8"))
        return {str(name): int(length) for name, length in noted.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _damage(path: Path) -> int | None:
    """Offset of the first fragment that is wrong, if any. Reads little more than the heads."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        at = 0
        while at + _HEAD.size <= size:
            left = BLOCK - at % BLOCK
            if left < _HEAD.size:  # filler at the end of a block
                at += left
                continue
            file.seek(at)
            crc, length, kind = _HEAD.unpack(file.read(_HEAD.size))
            rest = size - at - _HEAD.size  # no more, though a writer may be at it
            if (crc, length, kind) == (0, 0, 0):  # never written, up to the end
                return at if any(file.read(rest)) else None
            if kind not in _TYPES or length > left - _HEAD.size:
                return at
            if length > rest:
                torn = bytes([kind]) + file.read(rest)
                return at if _ends_within(crc, torn) else None
            at += _HEAD.size + length
    return None


def _ends_within(masked: int, data: bytes) -> bool:
    """Whether some head of ``data`` has this checksum: then it is whole, and its length is not."""
    rotated = (masked - _MASK) % 2**32
    wanted = (rotated >> 17 | rotated << 15) & 0xFFFFFFFF
    return wanted in _checksums(data)


def _checksums(data: bytes) -> Iterable[int]:
    """CRC-32C of each head of ``data``, from one byte on."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
        yield crc ^ 0xFFFFFFFF


@lru_cache(maxsize=1)
def _table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [c >> 1 ^ (_CRC_POLYNOMIAL if c & 1 else 0) for c in table]
    return table
