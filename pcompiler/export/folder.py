"""A folder that appears by one rename: written beside its place first."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from pcompiler.errors import InputError, UserError


def check(out: Path) -> None:
    """Refuse a place where no new folder can go.

    Raises:
        InputError: a file is there, a folder with something in it, or no folder above it.
    """
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"--out {out} is not empty; name a new folder, or empty this one.")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder.")
    if not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: the folder above it does not exist; make it first.")


def write(out: Path, files: dict[str, bytes]) -> None:
    """Write files into a new or empty folder, all or nothing.

    Args:
        out: the folder; see ``check``.
        files: bytes by relative path.

    Raises:
        UserError: the disk is full or not writable; nothing is left behind.
    """
    place = out.absolute()
    draft = place.parent / f".{place.name}.{secrets.token_hex(4)}"
    try:
        try:
            for name, data in files.items():
                path = draft / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            if place.is_dir():
                place.rmdir()  # not every system renames over a folder, even an empty one
            draft.rename(place)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as e:
        raise UserError(
            f"cannot write {out}: {e.strerror}. Free some space or choose another --out; "
            "nothing was left there."
        ) from None
