"""``pcompiler store push | pull | remote | sweep``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from math import inf

from pcompiler import progress
from pcompiler.commands import options, output
from pcompiler.config import Config
from pcompiler.errors import ConfigError, DamageError
from pcompiler.remote import parcel
from pcompiler.remote import sweep as sweeping
from pcompiler.remote.bucket import Bucket
from pcompiler.remote.shared import Shared
from pcompiler.table import nbytes, render

SHOWN = 20  # uploads that wait


def push(args: argparse.Namespace) -> int:
    """Upload artifacts: those that are named, or all that the remote does not have."""
    config = _config(args)
    with Shared(config.store.folder, config.store) as store:
        ids = [store.header(name).id for name in args.artifacts]
        if not args.artifacts:
            here, there = [header.id for header in store.headers()], set[str]()
            if not args.replace:
                there = _there(store) - {upload.artifact for upload in store.waiting()}
            ids = [name for name in here if name not in there]
        with progress.bar(len(ids), "uploading", "artifact") as shown:
            for name in ids:
                store.push(name, replace=args.replace)
                shown.update(1)
    if args.json:
        output.json_line({"remote": config.store.remote, "pushed": ids})
    else:
        print(f"uploaded {len(ids)} artifacts to {config.store.remote}")
    return 0


def pull(args: argparse.Namespace) -> int:
    """Fetch artifacts: those that are named, or all that are not here; damaged ones are told."""
    config = _config(args)
    pulled, refused = list[str](), list[str]()
    with Shared(config.store.folder, config.store) as store:
        names = args.artifacts or sorted(_there(store) - {h.id for h in store.headers()})
        with progress.bar(len(names), "fetching", "artifact") as shown:
            for name in names:
                try:
                    pulled.append(store.header(name).id)
                except DamageError as e:
                    refused.append(str(e))
                shown.update(1)
    if args.json:
        told = {"remote": config.store.remote, "pulled": pulled, "refused": refused}
        output.json_line(told)
    else:
        print("\n".join([f"{len(pulled)} artifacts of {config.store.remote} are here", *refused]))
    return DamageError.exit_code if refused else 0


def remote(args: argparse.Namespace) -> int:
    """What the remote has, and what waits to be uploaded."""
    config = _config(args)
    with Shared(config.store.folder, config.store) as store:
        here, there = {header.id for header in store.headers()}, _there(store)
        waiting = list(store.waiting())
    if args.json:
        told = {"remote": config.store.remote, "artifacts": sorted(there)}
        waits = [asdict(upload) for upload in waiting]
        output.json_line({**told, "here": len(here & there), "waiting": waits})
        return 0
    print(f"{config.store.remote}: {len(there)} artifacts, {len(here & there)} of them here")
    print(f"{len(waiting)} of the store wait to be uploaded")
    if args.list:
        print("\n".join(f"{name} here" if name in here else name for name in sorted(there)))
    if waiting:
        rows = [(u.artifact, u.since[:16], str(u.attempts), u.why) for u in waiting[:SHOWN]]
        print(f"\n{render(('artifact', 'since', 'failures', 'why'), rows)}")
    return 0


def sweep(args: argparse.Namespace) -> int:
    """Remove from the remote what no artifact there names."""
    config = _config(args)
    if not 0 <= args.older_than < inf:
        raise ConfigError(f"--older-than is {args.older_than}; it is hours, 0 or more.")
    with Bucket(config.store.remote, config.store.remote_timeout_s) as bucket:
        swept = sweeping.sweep(bucket, 3_600 * args.older_than, args.dry_run)
    if args.json:
        told = {"remote": config.store.remote, "dry_run": args.dry_run}
        output.json_line({**told, **asdict(swept)})
    else:
        print(
            f"{'would remove' if args.dry_run else 'removed'} {swept.bodies} bodies and "
            f"{swept.texts} texts that no artifact of {config.store.remote} names: "
            f"{nbytes(swept.size_bytes)}"
        )
    return 0


def _config(args: argparse.Namespace) -> Config:
    config = options.config(args)
    if not config.store.remote:
        raise ConfigError("which remote? Give --remote URL, or [store] remote.")
    return config


def _there(store: Shared) -> set[str]:
    async def found() -> set[str]:
        return {name async for name in parcel.listed(store.bucket)}

    return store.bucket.run(found())
