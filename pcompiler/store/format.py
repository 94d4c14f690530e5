"""The version of a store's layout, and how an older one is brought up to date.

    1  records as they are, no mark
    2  a checksum at the end of every record (see ``records.py``); ``metadata/format`` tells the
       version, itself without a checksum

A writer migrates what it opens: in batches, each with a mark of how far it got, so that a killed
migration goes on where it was. A reader of an old or newer store is told what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from pcompiler import progress
from pcompiler.errors import DamageError, MismatchError
from pcompiler.store.engine import Change, Engine
from pcompiler.store.seal import seal

FORMAT = 2
META = "metadata"
_VERSION, _AT = b"format", b"migrated-up-to"
_OLD = ("artifacts", "tensors", "prompts", "probes", "dictionaries")  # families of format 1
_BATCH_BYTES = 16 * 2**20


def bring_up_to_date(engine: Engine) -> None:
    """Check the version of an open store; a writer migrates an older one.

    Raises:
        MismatchError: a newer format, or an older one that is open for reading only.
        DamageError: the mark is none that was ever written.
    """
    version = check_readable(engine)
    if version == FORMAT:
        return
    if engine.access != "write":
        raise MismatchError(
            f"the store {engine.path} has format {version}, and this pcompiler reads {FORMAT}; "
            "'pcompiler store check' brings it up to date."
        )
    _migrate(engine)


def check_readable(engine: Engine) -> int:
    """The store's format. Raises MismatchError: newer than what is known here."""
    version = version_of(engine)
    if version > FORMAT:
        raise MismatchError(
            f"the store {engine.path} has format {version}; this pcompiler reads up to {FORMAT}. "
            "Update pcompiler."
        )
    return version


def is_marked(engine: Engine) -> bool:
    """Whether the store says its format: one without a mark may be of format 1."""
    return engine.get(META, _VERSION) is not None


def version_of(engine: Engine) -> int:
    """The store's format; that of an empty store is the newest."""
    mark = engine.get(META, _VERSION)
    if mark is not None:
        if not mark.isdigit() or len(mark) > 9:
            raise DamageError(f"the store {engine.path} is damaged: its format reads {mark!r}.")
        return int(mark)
    if any(next(engine.scan(family), None) for family in _OLD):
        return 1
    if engine.access == "write":
        engine.write([(META, _VERSION, b"%d" % FORMAT)])
    return FORMAT


def _migrate(engine: Engine) -> None:
    family, _, after = (engine.get(META, _AT) or b"").partition(b"\0")
    left = _OLD[_OLD.index(family.decode()) :] if family else _OLD
    with progress.bar(0, "bringing the store up to date", "record") as shown:
        for name in left:
            _seal_all(engine, name, after, shown.update)
            after = b""
    engine.write([(META, _VERSION, b"%d" % FORMAT), (META, _AT, None)])


def _seal_all(engine: Engine, family: str, after: bytes, step: Callable[[int], object]) -> None:
    """Seal the records of a family behind ``after``."""
    changes: list[Change] = []
    size = 0
    for key, value in chain(engine.scan(family, after), [(b"", b"")]):
        if size >= _BATCH_BYTES or (changes and not key):
            engine.write([*changes, (META, _AT, family.encode() + b"\0" + changes[-1][1])])
            changes, size = [], 0
        if key and key != after:  # the scan begins with what is done already
            changes.append((family, key, seal(key, value)))
            size += len(value)
            step(1)
