"""Text records: plain, or compressed with a dictionary where that makes them smaller.

A dictionary is its store's current one from when it is added until the next is. What was written
before stays as it is, and is read with the dictionary that its frame names.
"""

from __future__ import annotations

from collections.abc import Callable

from pcompiler.codec import zstd
from pcompiler.codec.dictionary import Dictionary
from pcompiler.codec.zstd import Codec
from pcompiler.errors import DamageError

CURRENT = "current"  # key of the id of the dictionary in use; the others are ids, in decimal
LEVEL = 9  # texts are small, and written once
MAX_TEXT_BYTES = 64 * 2**20  # of what is compressed; longer texts are left plain


class Texts:
    """Text records of a store, in and out of their stored form; may be shared by threads.

    Args:
        get: the record with this key in the store's family of dictionaries, if there is one.
    """

    def __init__(self, get: Callable[[str], bytes | None]) -> None:
        self._get = get
        self._codecs: dict[str, Codec] = {}

    def current(self) -> Dictionary | None:
        """The dictionary that texts are stored with, if any."""
        found = self._get(CURRENT)
        return None if found is None else self.dictionary(found.decode(errors="replace"))

    def dictionary(self, key: str) -> Dictionary:
        """The dictionary with this id, in decimal. Raises DamageError: not here, or damaged."""
        known = self._codec(key).dictionary
        assert known is not None, "a codec of this store has a dictionary"
        return known

    def encode(self, text: str) -> bytes:
        """What to store: the text, or a frame where a dictionary makes it smaller."""
        plain, dictionary = text.encode(), self.current()
        if dictionary is None or not len(plain) <= MAX_TEXT_BYTES:
            return plain
        frame = self._codec(str(dictionary.id)).compress(plain)
        return frame if len(frame) < len(plain) else plain

    def decode(self, record: bytes) -> str:
        """Undo ``encode``; bytes that are not UTF-8 are replaced, for a hash to notice.

        Raises:
            DamageError: a frame that is damaged, or whose dictionary is not here.
        """
        # Frames begin with 28 B5 2F FD, which no UTF-8 does: plain records need no mark.
        if record.startswith(zstd.MAGIC):
            codec = self._codec(str(needs(record)))
            record = codec.decompress(record, MAX_TEXT_BYTES)
        return record.decode(errors="replace")

    def _codec(self, key: str) -> Codec:
        if key not in self._codecs:
            record = self._get(key)
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
