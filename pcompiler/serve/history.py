"""Jobs as they were last seen, in a file, for the compiler that comes after one that died."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from pcompiler.serve.contract import FINAL, Job

LOST = {
    "type": "Gone",
    "message": "the compiler died while this job waited or ran; send the prompt again.",
    "status": 503,
}
log = logging.getLogger("pcompiler.serve")


class History:
    """One line of JSON for each time that a job comes or ends.

    Args:
        path: of the file, in a folder that is private to this server.
        most: jobs that are kept.
    """

    def __init__(self, path: Path, most: int) -> None:
        self._path, self._most = path, most
        self._jobs: dict[str, Job] = {}
        self._lines = 0

    def restore(self) -> Iterable[Job]:
        """The jobs of whoever wrote here before; those that were not over have failed."""
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                if (job := _read(line)) is not None:
                    self._keep(job)
        for job in self._jobs.values():
            if job.status not in FINAL:
                self._jobs[job.id] = replace(job, status="failed", stage="", error=LOST)
        self._rewrite()
        return list(self._jobs.values())

    def note(self, job: Job) -> None:
        """Keep how a job stands now."""
        self._keep(job)
        self._lines += 1
        try:
            if self._lines > 4 * self._most:
                self._rewrite()
            else:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(job)) + "\n")
        except OSError as e:
            log.warning("jobs cannot be written down: %s", e)

    def _keep(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        self._jobs[job.id] = job
        while len(self._jobs) > self._most:
            del self._jobs[next(iter(self._jobs))]

    def _rewrite(self) -> None:
        lines = [json.dumps(asdict(job)) + "\n" for job in self._jobs.values()]
        self._path.write_text("".join(lines), encoding="utf-8")
        self._lines = len(lines)


def _read(line: str) -> Job | None:
    """None: half a line, written as the process died."""
    try:
        return Job(**json.loads(line))
    except (ValueError, TypeError):
        return None
