"""A corpus through an engine: shown on a terminal, counted, and written down as it goes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcompiler import progress
from pcompiler.closing import Closing
from pcompiler.errors import InputError, UserError
from pcompiler.scale.base import Engine, Entry, Outcome
from pcompiler.scale.entries import Corpus

TICK_S = 0.2  # between two looks at a terminal, and two flushes of the outcomes
# Hours, and millions of prompts, fit into a terminal of 80 columns; each look draws it anew.
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
LOOKS = {"bar_format": BAR, "unit_scale": True, "miniters": 1}
TOLD = 5  # reasons of failures that a summary has


class Sheet(Closing):
    """A file of JSON lines.

    Args:
        path: the file.
        overwrite: though it is there already.

    Raises:
        InputError: it is there already, or cannot be written.
    """

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        self._path = path
        try:
            self._file = path.open("w" if overwrite else "x", encoding="utf-8")
        except FileExistsError:
            raise InputError(f"{path} exists; give another name, or --overwrite.") from None
        except OSError as e:
            raise InputError(f"cannot write {path}: {e.strerror}.") from None

    def write(self, row: Mapping[str, Any]) -> None:
        """Write a row; a killed process may lose what was not flushed. Raises UserError."""
        self._do(self._file.write, json.dumps(row) + "\n")  # half a surrogate pair is kept as \u

    def flush(self) -> None:
        """Have all rows in the file. Raises UserError."""
        self._do(self._file.flush)

    def close(self) -> None:
        """Close the file."""
        self._do(self._file.close)

    def _do(self, action: Any, *arguments: str) -> None:  # noqa: ANN401 - of the file
        try:
            action(*arguments)
        except OSError as e:
            raise UserError(
                f"cannot write {self._path}: {e.strerror}. What was compiled is in the store; "
                "free some space and give the same command again, with --overwrite."
            ) from None


@dataclass
class Summary:
    """What came of a corpus.

    Attributes:
        prompts: that it has.
        compiled: by this run, each content once.
        found: in the store, or on its way there.
        failed: neither.
        seconds: wall time, once all was loaded.
        reasons: of the first failures.
    """

    prompts: int = 0
    compiled: int = 0
    found: int = 0
    failed: int = 0
    seconds: float = 0.0
    reasons: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Prompts a second."""
        return self.prompts / self.seconds if self.seconds else 0.0

    def count(self, outcome: Outcome) -> None:
        """Take one more into account."""
        self.prompts += 1
        if outcome.error is not None:
            self.failed += 1
            if len(self.reasons) < TOLD:
                self.reasons.append(f"prompt {outcome.number}: {outcome.error}")
        elif outcome.known:
            self.found += 1
        else:
            self.compiled += 1


class Pass:
    """One pass of a corpus through an engine.

    Args:
        engine: compiles.
        corpus: is read once, from its beginning.
        dead_letters: takes what failed, as rows that are read again like any input.
        output: takes the artifact of every prompt.
        ordered: in the order of the corpus, not in that in which they end.
    """

    def __init__(
        self,
        engine: Engine,
        corpus: Corpus,
        dead_letters: Sheet | None = None,
        output: Sheet | None = None,
        ordered: bool = False,
    ) -> None:
        self._engine, self._corpus = engine, corpus
        self._dead_letters, self._output, self._ordered = dead_letters, output, ordered
        self._waiting: dict[int, Entry] = {}
        self._early: dict[int, Mapping[str, Any]] = {}  # rows that wait for their turn
        self._next = 0

    def run(self) -> Summary:
        """Compile all of it. Raises what the engine and the files do."""
        summary, began, shown_at = Summary(), time.perf_counter(), 0.0
        with progress.bar(self._corpus.expected(), "prompts", "", **LOOKS) as shown:
            for outcome in self._engine.run(self._entries()):
                summary.count(outcome)
                self._write(outcome, self._waiting.pop(outcome.number))
                now = time.perf_counter()
                if now - shown_at > TICK_S:
                    shown_at = now
                    self._show(shown, summary)
            self._show(shown, summary)
        summary.seconds = time.perf_counter() - began
        return summary

    def _entries(self) -> Iterator[Entry]:
        for number, entry in enumerate(self._corpus):
            self._waiting[number] = entry
            yield entry

    def _write(self, outcome: Outcome, entry: Entry) -> None:
        if outcome.error is not None and self._dead_letters is not None:
            self._dead_letters.write(_letter(outcome, entry))
            self._dead_letters.flush()
        if self._output is None:
            return
        self._early[outcome.number] = _row(outcome, entry)
        if not self._ordered:
            self._output.write(self._early.pop(outcome.number))
        while (row := self._early.pop(self._next, None)) is not None:
            self._output.write(row)
            self._next += 1

    def _show(self, shown: Any, summary: Summary) -> None:  # noqa: ANN401 - tqdm is generic
        shown.total = max(self._corpus.expected(), summary.prompts)
        found = 100 * summary.found // max(1, summary.prompts)
        shown.set_postfix_str(f"{found} % found, {summary.failed} failed", refresh=False)
        shown.update(summary.prompts - shown.n)
        if self._output is not None:
            self._output.flush()


def _letter(outcome: Outcome, entry: Entry) -> dict[str, Any]:
    row = {"number": outcome.number, "id": entry.label, "error": outcome.error}
    if entry.error is not None:
        return {**row, "row": entry.source}
    return {**row, "source": entry.source, **({"queries": entry.queries} if entry.queries else {})}


def _row(outcome: Outcome, entry: Entry) -> dict[str, Any]:
    return {
        "number": outcome.number,
        "id": entry.label,
        "artifact": outcome.id if outcome.error is None else None,
        "found": outcome.known,
        "error": outcome.error,
    }
