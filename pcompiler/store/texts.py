"""Text records: plain, or compressed with a dictionary where that makes them smaller.

A dictionary is its store's current one from when it is added until the next is. What was written
before stays as it is, and is read with the dictionary that its frame names.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

from pcompiler.codec import zstd
from pcompiler.codec.dictionary import Dictionary
from pcompiler.codec.measured import measured
from pcompiler.codec.zstd import Codec
from pcompiler.errors import DamageError, StoreUnavailable
from pcompiler.store.engine import Change
from pcompiler.store.records import Records

TEXTS = ("prompts", "probes")  # families of text records
MAX_DICTIONARIES = 64
_FAMILY = "dictionaries"
CURRENT = "current"  # key of the id of the dictionary in use; the others are ids, in decimal
LEVEL = 9  # texts are small, and written once
MAX_TEXT_BYTES = 64 * 2**20  # of what is compressed; longer texts are left plain


class Texts:
    """Text records of a store, in and out of their stored form; may be shared by threads.

    Args:
        records: of the store.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._codecs: dict[str, Codec] = {}

    def current(self) -> Dictionary | None:
        """The dictionary that texts are stored with, if any."""
        found = self._records.get(_FAMILY, CURRENT.encode())
        return None if found is None else self.dictionary(found.decode(errors="replace"))

    def dictionary(self, key: str) -> Dictionary:
        """The dictionary with this id, in decimal. Raises DamageError: not here, or damaged."""
        known = self._codec(key).dictionary
        assert known is not None, "a codec of this store has a dictionary"
        return known

    def all(self) -> list[tuple[Dictionary, int]]:
        """All dictionaries, oldest first, and how many records cannot be read without each."""
        scan = self._records.scan
        uses = Counter(needs(record) for family in TEXTS for _, record in scan(family))
        keys = [key.decode() for key, _ in scan(_FAMILY) if key != CURRENT.encode()]
        found = sorted(map(self.dictionary, keys), key=lambda d: (d.created, d.version))
        return [(dictionary, uses[dictionary.id]) for dictionary in found]

    def add(self, dictionary: Dictionary) -> Dictionary:
        """Store texts with this dictionary from now on; see ``Store.add_dictionary``."""
        known, key = self.all(), str(dictionary.id).encode()
        here = next((d for d, _ in known if d.id == dictionary.id), None)
        changes: list[Change] = [(_FAMILY, CURRENT.encode(), key)]
        if here is None:
            changes.append((_FAMILY, key, dictionary.encode()))
            if len(known) >= MAX_DICTIONARIES:
                changes.append((_FAMILY, str(self._unused(known)).encode(), None))
        self._records.write(changes)
        return here or dictionary

    def _unused(self, known: list[tuple[Dictionary, int]]) -> int:
        """Id of the oldest dictionary that no record needs."""
        for dictionary, uses in known:
            if not uses:
                return dictionary.id
        raise StoreUnavailable(
            f"the store {self._records.path} has {len(known)} dictionaries, and its prompts and "
            "probes need them all; use another --store."
        )

    def encode(self, text: str) -> bytes:
        """What to store: the text, or a frame where a dictionary makes it smaller."""
        plain, dictionary = text.encode(), self.current()
        if dictionary is None or not len(plain) <= MAX_TEXT_BYTES:
            return plain
        codec = self._codec(str(dictionary.id))
        frame = measured("compress", "texts", codec.compress, plain)
        return frame if len(frame) < len(plain) else plain

    def decode(self, record: bytes) -> str:
        """Undo ``encode``; bytes that are not UTF-8 are replaced, for a hash to notice.

        Raises:
            DamageError: a frame that is damaged, or whose dictionary is not here.
        """
        # Frames begin with 28 B5 2F FD, which no UTF-8 does: plain records need no mark.
        if record.startswith(zstd.MAGIC):
            codec = self._codec(str(needs(record)))
            read = partial(codec.decompress, max_bytes=MAX_TEXT_BYTES)
            record = measured("decompress", "texts", read, record)
        return record.decode(errors="replace")

    def _codec(self, key: str) -> Codec:
        if key not in self._codecs:
            record = self._records.get(_FAMILY, key.encode())
            if record is None:
                raise DamageError(f"dictionary {key} is not in the store.")
            found = Dictionary.decode(record)
            if str(found.id) != key:
                raise DamageError(f"dictionary {found.id} stands where {key} belongs.")
            self._codecs[key] = Codec(LEVEL, dictionary=found)
        return self._codecs[key]


def needs(record: bytes) -> int:
    """Id of the dictionary that a text record names; 0 is none. Raises DamageError."""
    return zstd.dictionary_id(record) if record.startswith(zstd.MAGIC) else 0
