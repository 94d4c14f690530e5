"""Finds what is damaged in a store, and sets it aside so that the rest can be read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pcompiler import progress
from pcompiler.codec.dictionary import Dictionary
from pcompiler.config import StoreConfig
from pcompiler.errors import DamageError, MismatchError, StoreUnavailable
from pcompiler.store.artifact import Header
from pcompiler.store.db import Store
from pcompiler.store.drafts import Draft
from pcompiler.store.engine import Access, Change
from pcompiler.store.names import Name
from pcompiler.store.records import QUARANTINE, SEALED
from pcompiler.store.rocksdb import uncached
from pcompiler.store.salvage import Damage, quarantine_key, read_around, rebuild
from pcompiler.store.seal import unseal
from pcompiler.store.texts import CURRENT, TEXTS
from pcompiler.store.uploads import Upload


@dataclass
class Report:
    """What a check found.

    Attributes:
        records: how many were read and found whole.
        damage: what was not.
        incomplete: artifacts that work, and whose prompt or probes are not here.
        mended: whether damage was set aside; None: there was none.
        why_not: why it was not.
        kept: where the store is kept as it was, if files had to be replaced.
    """

    records: int = 0
    damage: list[Damage] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    mended: bool | None = None
    why_not: str = ""
    kept: Path | None = None


def check(folder: Path, settings: StoreConfig, mend: bool = True) -> Report:
    """Read every record, compare it with its checksums, and set aside what is damaged.

    A damaged record moves to the family ``quarantine``, as it was found. Where files cannot be
    read, the store is replaced by a copy of what can be, and kept beside.

    Args:
        folder: the store's.
        settings: of the [store] section.
        mend: false only looks; so does a check beside another process that writes.

    Raises:
        StoreUnavailable: there is no store.
        MismatchError: of a newer format.
    """
    report, settings = Report(), uncached(settings)
    access: Access = "write" if mend else "read"
    if not folder.is_dir():
        raise StoreUnavailable(f"there is no store at {folder}; compile a prompt first.")
    try:
        unreadable = _check(folder, settings, access, report)
    except DamageError as e:
        report.damage.append(Damage("files", b"", str(e), unreadable=True))
        unreadable = True
    except StoreUnavailable as e:
        if not mend or "another process" not in str(e):
            raise
        report.why_not = str(e)
        mend, unreadable = False, _check(folder, settings, "read", report)
    if unreadable and mend:
        report = Report()
        report.kept = rebuild(folder, settings, report.damage.append)
        _check(folder, settings, "write", report)
    if report.damage:
        report.mended = mend
        report.why_not = "" if mend else report.why_not or "it was only looked for"
    return report


def _check(folder: Path, settings: StoreConfig, access: Access, report: Report) -> bool:
    """Fill in the report; returns whether files cannot be read."""
    with Store(folder, access, settings) as store:
        found = list(_Examination(store, report).run())
        report.damage += found
        unreadable = any(d.unreadable for d in found)
        if access == "write" and not unreadable:
            _set_aside(store, found)
    return unreadable


class _Examination:
    """One reading of a whole store."""

    def __init__(self, store: Store, report: Report) -> None:
        self._store, self._report = store, report
        self._headers: dict[str, str | None] = {}  # id → hash of its body
        self._bodies: set[str] = set()
        self._dictionaries: dict[str, bytes] = {}
        self._texts: set[tuple[str, str]] = set()
        self._needs: dict[tuple[str, str], str] = {}  # text → artifact that came from it

    def run(self) -> Iterator[Damage]:
        with progress.bar(0, "checking", "record") as shown:
            for family in SEALED:
                for found in read_around(self._store.records.engine, family):
                    shown.update(1)
                    if isinstance(found, Damage):
                        yield found
                        continue
                    key, record = found
                    try:
                        value = unseal(key, record)
                        if family != "embeddings":  # the keys of the others are text
                            self._read(family, key.decode(), value)
                        self._report.records += 1
                    except (DamageError, UnicodeDecodeError) as e:
                        yield Damage(family, key, str(e), record)
        yield from self._apart()

    def _read(self, family: str, key: str, value: bytes) -> None:
        """Take note of a record. Raises DamageError: it contradicts itself, or its key."""
        if family == "artifacts":
            try:
                header, _ = Header.parse(value)
            except MismatchError:  # of a newer format, which is no damage
                self._headers[key] = None
                return
            self._headers[key] = header.body_sha256
            self._needs["prompts", header.prompt_hash] = key
            self._needs["probes", header.probes_hash] = key
        elif family == "tensors":
            self._bodies.add(key)
            known = self._headers.get(key)
            if known is not None and hashlib.sha256(value).hexdigest() != known:
                raise DamageError("these are not the tensors that its header tells of.")
        elif family in TEXTS:
            self._store.read(family, key, value)
            self._texts.add((family, key))
        elif family == "dictionaries":
            self._dictionaries[key] = value
            if key != CURRENT:
                Dictionary.decode(value)
        elif family == "names":
            Name.decode(key, value)
        elif family == "drafts":
            self._needs["prompts", Draft.decode(key, value).prompt_hash] = key
        elif family == "uploads":
            Upload.decode(key, value)

    def _apart(self) -> Iterator[Damage]:
        """What belongs together and is not."""
        get = self._store.records.engine.get
        for key in sorted(self._headers.keys() - self._bodies):
            record = get("artifacts", key.encode())
            yield Damage("artifacts", key.encode(), "its tensors are missing.", record)
        for key in sorted(self._bodies - self._headers.keys()):
            record = get("tensors", key.encode())
            yield Damage("tensors", key.encode(), "their header is missing.", record)
        current = self._dictionaries.get(CURRENT)
        if current is not None and current.decode(errors="replace") not in self._dictionaries:
            record = get("dictionaries", CURRENT.encode())
            what = "the dictionary that it names is missing."
            yield Damage("dictionaries", CURRENT.encode(), what, record)
        usable = self._headers.keys() & self._bodies
        for name in () if self._store.settings.remote else self._names():  # it may be there
            if name.artifact is not None and name.artifact not in usable:
                what = f"artifact {name.artifact}, which it points at, is missing."
                yield Damage("names", name.name.encode(), what)
        missing = self._needs.keys() - self._texts
        self._report.incomplete = sorted({self._needs[text] for text in missing})

    def _names(self) -> Iterator[Name]:
        for found in read_around(self._store.records.engine, "names"):
            if not isinstance(found, Damage):
                try:
                    yield Name.decode(found[0].decode(), unseal(*found))
                except DamageError:
                    continue


def _set_aside(store: Store, found: list[Damage]) -> None:
    for damage in found:
        key = damage.raw
        if damage.record is not None:
            moved: list[Change] = [
                (QUARANTINE, quarantine_key(damage.where, key), damage.record),
                (damage.where, key, None),
            ]
            store.records.engine.write(moved)
        elif damage.where == "names":
            store.records.write(store.names.pointed({key.decode(): None}))
