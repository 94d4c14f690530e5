"""From an input to entries, one by one: JSON lines, a folder of files, Parquet.

What cannot be read is an entry with an error, so that one bad row stops no other.
"""

from __future__ import annotations

import json
import os
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pcompiler.closing import Closing
from pcompiler.errors import InputError, UserError
from pcompiler.frontend import read_source
from pcompiler.frontend.parse import MAX_BYTES
from pcompiler.scale.base import Entry

LINES, FILES = (".jsonl", ".ndjson"), (".txt", ".md", ".markdown", ".json")
TEXTS = ("prompt", "text", "source")  # names that a row's prompt may have
CHAT = "messages"
WANTED = f"a prompt is a text in {', '.join(TEXTS)}, or a list of chat messages in {CHAT}"
ROWS = 256  # of Parquet that are read at once
SHOWN = 65_536  # characters of a row that cannot be read


class Corpus(Closing):
    """Prompts one after the other; read once."""

    @abstractmethod
    def __iter__(self) -> Iterator[Entry]: ...

    def expected(self) -> int:
        """How many there are in all, as far as can be told now; 0: nobody knows."""
        return 0

    def close(self) -> None:
        """Let go of the file."""


class Lines(Corpus):
    """JSON lines; from standard input for ``-``. Lines without anything are no rows."""

    def __init__(self, path: str) -> None:
        self._name, self._size, self._read, self._rows = path, 0, 0, 0
        if path == "-":
            self._file: IO[bytes] = sys.stdin.buffer
            return
        try:
            self._file = Path(path).open("rb")  # noqa: SIM115 - closed by close
        except OSError as e:
            raise InputError(f"cannot read {path}: {e.strerror}.") from None
        self._size = os.fstat(self._file.fileno()).st_size

    def __iter__(self) -> Iterator[Entry]:
        number = 0
        while line := self._file.readline(MAX_BYTES + 1):
            number += 1
            whole, self._read = len(line) <= MAX_BYTES, self._read + len(line)
            while not whole and not line.endswith(b"\n"):
                line = self._file.readline(2**20)
                self._read += len(line)
                if not line:
                    break
            if whole and not line.strip():
                continue
            self._rows += 1
            yield _parsed(line, number) if whole else _too_long(number)

    def expected(self) -> int:
        """By the mean length of a line until now."""
        return round(self._size * self._rows / self._read) if self._read else 0

    def close(self) -> None:
        """Let go of the file."""
        if self._name != "-":
            self._file.close()


class Folder(Corpus):
    """Text, Markdown and JSON files, in order of their paths, which are their labels."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = sum(1 for _ in self._paths())
        if not self._count:
            raise InputError(
                f"{folder} has no prompts: none of its files ends in {', '.join(FILES)}."
            )

    def __iter__(self) -> Iterator[Entry]:
        for path in self._paths():
            label = path.relative_to(self._folder).as_posix()
            try:
                yield Entry(read_source(path), label)
            except InputError as e:
                yield Entry("", label, error=str(e))

    def expected(self) -> int:
        """Counted before."""
        return self._count

    def _paths(self) -> Iterator[Path]:
        for here, folders, names in os.walk(self._folder):
            folders.sort()
            for name in sorted(names):
                if Path(name).suffix.lower() in FILES:
                    yield Path(here, name)


class Parquet(Corpus):
    """Rows of a Parquet file, some hundred at a time."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as e:
            raise UserError(
                f"reading {path} needs pyarrow ({e}): pip install 'pcompiler[scale]', "
                "or give JSON lines."
            ) from None
        try:
            self._file = parquet.ParquetFile(path)
        except (OSError, pyarrow.ArrowException) as e:
            raise InputError(f"cannot read {path} as Parquet: {e}.") from None
        names = self._file.schema_arrow.names
        self._columns = [c for c in (*TEXTS, CHAT, "id", "queries") if c in names]
        if not {*self._columns} & {*TEXTS, CHAT}:
            raise InputError(f"{path} has the columns {', '.join(names)}; {WANTED}.")

    def __iter__(self) -> Iterator[Entry]:
        number = 0
        for batch in self._file.iter_batches(ROWS, columns=self._columns):
            for row in batch.to_pylist():
                number += 1
                yield _entry(row, f"row {number}")

    def expected(self) -> int:
        """As the file says."""
        return int(self._file.metadata.num_rows)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def open_corpus(path: str) -> Corpus:
    """The prompts of an input; nothing is read yet but what tells that it can be.

    Raises:
        InputError: not there, not readable, or of a kind that is not known.
        UserError: Parquet, and pyarrow is not there.
    """
    of, kind = Path(path), Path(path).suffix.lower()
    if path == "-" or kind in LINES:
        return Lines(path)
    if not of.exists():
        raise InputError(f"{path} does not exist; give a JSONL or Parquet file, or a folder.")
    if of.is_dir():
        return Folder(of)
    if kind == ".parquet":
        return Parquet(of)
    raise InputError(
        f"{path} is none of what a corpus may be: a file that ends in {', '.join(LINES)} or "
        ".parquet, - for JSON lines from standard input, or a folder of prompt files."
    )


def _parsed(line: bytes, number: int) -> Entry:
    where = f"line {number}"
    try:
        row = json.loads(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
    except (ValueError, RecursionError) as e:
        return _unread(line.decode(errors="replace"), None, f"{where} is not JSON: {e}.")
    if not isinstance(row, dict):
        return _unread(line.decode(errors="replace"), None, f"{where} is no JSON object.")
    return _entry(row, where)


def _too_long(number: int) -> Entry:
    return _unread("", None, f"line {number} is over {MAX_BYTES >> 20} MiB; a prompt is smaller.")


def _entry(row: Mapping[str, Any], where: str) -> Entry:
    told = row.get("id")
    label = told if isinstance(told, str | int) else None
    given = [n for n in (*TEXTS, CHAT) if row.get(n) is not None]
    source = _source(row, given[0]) if len(given) == 1 else None
    queries = _queries(row.get("queries"))
    if source is None:
        named = ", ".join(given) or "nothing that is named so"
        return _unread(
            row, label, f"{where} has no prompt: {WANTED}, and one of them; it has {named}."
        )
    if queries is None:
        return _unread(row, label, f"{where}: queries must be a list of texts, none of them empty.")
    return Entry(source, label, queries)


def _source(row: Mapping[str, Any], name: str) -> str | None:
    value = row[name]
    if name != CHAT:
        return value if isinstance(value, str) else None
    try:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else None
    except TypeError:  # Parquet has dates and bytes
        return None


def _queries(given: Any) -> tuple[str, ...] | None:  # noqa: ANN401 - raw JSON
    if given is None:
        return ()
    if not isinstance(given, list):
        return None
    fine = all(isinstance(query, str) and query.strip() for query in given)
    return tuple(given) if fine else None


def _unread(row: Any, label: str | int | None, why: str) -> Entry:  # noqa: ANN401 - raw JSON
    text = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str)
    return Entry(text[:SHOWN], label, error=why)
