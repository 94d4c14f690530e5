"""``pcompiler store check | backup | restore | gc | evict``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from pcompiler.commands import options, output
from pcompiler.errors import ConfigError, DamageError
from pcompiler.store import backup as backups
from pcompiler.store.check import Report
from pcompiler.store.check import check as checked
from pcompiler.store.db import Store
from pcompiler.table import nbytes, render


def check(args: argparse.Namespace) -> int:
    """Find damage, name it, and set it aside."""
    config = options.config(args)
    folder = config.store.folder
    report = checked(folder, config.store, mend=not args.dry_run)
    if args.json:
        damage = [{"where": d.where, "key": d.key, "what": d.what} for d in report.damage]
        fields = {**vars(report), "damage": damage, "kept": str(report.kept or "") or None}
        output.json_line({"store": str(folder), **fields})
    else:
        print(_told(folder, report))
    return DamageError.exit_code if report.damage else 0


def _told(folder: Path, report: Report) -> str:
    lines = [f"{folder}: {report.records} records are whole, {len(report.damage)} damages"]
    if report.damage:
        rows = [(d.where, d.key[:40], d.what) for d in report.damage]
        lines += ["", render(("where", "record", "what"), rows)]
        lines.append(
            "what was damaged has been set aside; the rest can be read"
            if report.mended
            else f"nothing was set aside: {report.why_not}"
        )
    if report.kept:
        lines.append(f"files could not be read: the store as it was is kept at {report.kept}")
    if report.incomplete:
        lines.append(
            f"{len(report.incomplete)} artifacts work without their prompt or probes: "
            f"{', '.join(report.incomplete[:3])}{' …' * (len(report.incomplete) > 3)}"
        )
    return "\n".join(lines)


def backup(args: argparse.Namespace) -> int:
    """Copy the store, verified, as it is now."""
    config = options.config(args)
    target = Path(args.folder)
    count = backups.backup(config.store.folder, target, config.store)
    size = sum(f.stat().st_size for f in target.iterdir())
    if args.json:
        output.json_line({"backup": str(target), "records": count, "disk_bytes": size})
    else:
        print(f"{count} records, {nbytes(size)}, every checksum verified: {target}")
    return 0


def restore(args: argparse.Namespace) -> int:
    """Put a backup in the store's place."""
    config = options.config(args)
    folder = config.store.folder
    count, kept = backups.restore(Path(args.folder), folder, config.store, args.replace)
    if args.json:
        output.json_line(
            {"store": str(folder), "records": count, "kept": str(kept) if kept else None}
        )
    else:
        print(f"{count} records restored to {folder}")
        if kept:
            print(f"what was there is kept at {kept}")
    return 0


def gc(args: argparse.Namespace) -> int:
    """Remove what no artifact needs."""
    config = options.config(args)
    with Store(config.store.folder, settings=config.store) as store:
        freed = store.gc()
    if args.json:
        output.json_line({"store": str(config.store.folder), **asdict(freed)})
    else:
        print(
            f"removed {freed.prompts} prompts, {freed.probes} probe lists, {freed.tensors} tensors "
            f"and {freed.embeddings} vectors that no artifact needs: {nbytes(freed.record_bytes)}"
        )
    return 0


def evict(args: argparse.Namespace) -> int:
    """Remove the artifacts that were not used for longest."""
    config = options.config(args)
    limit = config.store.max_bytes
    if limit is None:
        raise ConfigError("how much is to stay? Give --max-bytes N, or [store] max_bytes.")
    with Store(config.store.folder, settings=config.store) as store:
        gone = store.evict(limit)
        store.gc()
    size = sum(header.size_bytes for header in gone)
    if args.json:
        output.json_line({"evicted": [header.id for header in gone], "record_bytes": size})
    else:
        print(f"evicted {len(gone)} artifacts, {nbytes(size)}")
    return 0
