"""What a remote costs: artifacts from it, from the store before it, and puts with it and without.

Ways take turns in one run. A remote of yours is asked only for what this has put there, under a
prefix of its own, and that is removed at the end (bodies and texts: see docs/store.md).

    python benches/shared_store.py --body-kb 4000
    AWS_ENDPOINT_URL=… python benches/shared_store.py --remote s3://bucket/bench
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from pcompiler.config import StoreConfig
from pcompiler.ir import Fidelity
from pcompiler.remote import parcel
from pcompiler.remote.bucket import Bucket
from pcompiler.remote.shared import Shared
from pcompiler.store.artifact import Artifact, Header
from pcompiler.store.db import Store
from pcompiler.store.key import content_hash
from pcompiler.table import render

PROMPT, PROBES = "You are the desk of a workshop.\n" * 200, '{"query": "When?"}\n' * 16


def artifact(number: int, body_bytes: int) -> Artifact:
    """A body of random bytes, as compressed tensors are, with a header."""
    body = os.urandom(body_bytes)
    header = Header(
        id=f"{number:024x}",
        target="kv",
        model_name="m",
        model={"family": "llama"},
        config="c",
        prompt_hash=content_hash(PROMPT),
        probes_hash=content_hash(PROBES),
        probes_from="queries",
        answer_limit=24,
        context_tokens=3,
        kept_tokens=3,
        before="",
        after="",
        fidelity=Fidelity(0.1, 0.9, 1.0, 0.5, 10, 2),
        created="2026-01-01T00:00:00+00:00",
        timing={},
        body_bytes=len(body),
        body_sha256=hashlib.sha256(body).hexdigest(),
        tensor_bytes=len(body),
    )
    return Artifact(header, body)


@dataclass
class Times:
    """Milliseconds of one way: wall, and CPU of the whole process."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def take(self, work: Callable[[], object]) -> None:
        """Do it once."""
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.wall.append(1e3 * (time.perf_counter() - wall))
        self.cpu.append(1e3 * (time.process_time() - cpu))

    @property
    def row(self) -> tuple[str, str, str]:
        """Median, 99 % and CPU."""
        last = sorted(self.wall)[int(0.99 * (len(self.wall) - 1))]
        return (
            f"{statistics.median(self.wall):.3f}",
            f"{last:.3f}",
            f"{statistics.median(self.cpu):.3f}",
        )


def measured(folder: Path, remote: str, count: int, body_bytes: int) -> dict[str, Times]:
    """Each way so many times."""
    made = [artifact(number, body_bytes) for number in range(count)]
    ids = [one.header.id for one in made]
    ways = ("put, no remote", "put, acknowledged", "… until it is there", "objects alone")
    times = {way: Times() for way in (*ways, "read through", "get, no remote", "get", "not there")}
    at = StoreConfig(remote=remote, remote_absent_s=0.0)
    with (
        Store(folder / "alone") as alone,
        Shared(folder / "here", at) as here,
        Shared(folder / "there", at) as there,
        Bucket(remote, at.remote_timeout_s) as bucket,
    ):
        for one in made:
            times["put, no remote"].take(partial(alone.put, one, PROMPT, PROBES))
            times["put, acknowledged"].take(partial(here.put, one, PROMPT, PROBES))
            times["… until it is there"].take(partial(here.flush, 60))
        for name in ids:
            times["objects alone"].take(partial(objects, bucket, alone.header(name)))
            times["read through"].take(partial(there.get, name))
            times["get, no remote"].take(partial(alone.get, name))
            times["get"].take(partial(there.get, name))
            times["not there"].take(partial(there.find, "f" * 12 + name[12:]))
        for name in ids:
            here.delete(name, everywhere=True)
    return times


def objects(bucket: Bucket, header: Header) -> None:
    """The objects of an artifact, one after the other, and nothing of them."""
    texts = [(parcel.TEXTS, header.prompt_hash), (parcel.TEXTS, header.probes_hash)]
    for kind, name in (
        (parcel.ARTIFACTS, header.id),
        (parcel.BODIES, header.body_sha256),
        *texts,
    ):
        bucket.run(bucket.get(parcel.path(kind, name), 2**30))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--remote", help="(default: a folder that goes at the end)")
    parser.add_argument("--count", type=int, default=100, help="artifacts (default %(default)s)")
    parser.add_argument("--body-kb", type=int, default=400, help="of each (default %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "remote").mkdir()
        remote = f"{args.remote}/{os.getpid()}" if args.remote else (folder / "remote").as_uri()
        times = measured(folder, remote, args.count, args.body_kb * 1000)
    kind = remote.partition(":")[0]
    print(f"{args.count} artifacts of {args.body_kb} KB, remote {kind}://; milliseconds")
    print(render(("", "median", "99 %", "CPU"), [(way, *t.row) for way, t in times.items()]))


if __name__ == "__main__":
    main()
