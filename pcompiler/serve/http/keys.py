"""Who may ask: keys from a file, kept as hashes, compared in constant time."""

from __future__ import annotations

import hmac
import os
import re
import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from pcompiler.errors import ConfigError

MAX_FILE_BYTES, MAX_KEYS, MIN_KEY = 2**18, 1_000, 16
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KEY = re.compile(r"[\x21-\x7e]{1,256}")
FORM = f"one NAME:KEY a line, the key of {MIN_KEY} characters or more; # begins a comment"


class Keys:
    """The keys of a server. Nothing of this class shows a key.

    Args:
        digests: by name, the SHA-256 of its key.
    """

    def __init__(self, digests: Mapping[str, bytes]) -> None:
        self._digests = tuple(digests.items())

    @property
    def names(self) -> tuple[str, ...]:
        """Of all keys, in the order of the file."""
        return tuple(name for name, _ in self._digests)

    def owner(self, authorization: str | None) -> str | None:
        """Whose key an Authorization header has; every key is compared, whichever matches."""
        scheme, _, key = (authorization or "").partition(" ")
        given = sha256(key.strip().encode("utf-8", "replace")).digest()
        found: str | None = None
        for name, digest in self._digests:
            if hmac.compare_digest(given, digest):
                found = name
        return found if scheme.lower() == "bearer" else None


def read_keys(path: str | Path) -> Keys:
    """Read a key file.

    Raises:
        ConfigError: not there, readable by others, or a line that is none of a key file.
    """
    lines = _text(Path(path)).splitlines()
    digests: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, key = (part.strip() for part in line.partition(":"))
        if not _NAME.fullmatch(name) or not _KEY.fullmatch(key) or len(key) < MIN_KEY:
            raise ConfigError(f"line {number} of {path} is no key: {FORM}.")  # never the line
        digest = sha256(key.encode()).digest()
        if name in digests or digest in digests.values():
            raise ConfigError(f"line {number} of {path} has a name or key of a line before it.")
        digests[name] = digest
    if not 1 <= len(digests) <= MAX_KEYS:
        raise ConfigError(f"{path} has {len(digests)} keys; it must have 1 to {MAX_KEYS}: {FORM}.")
    return Keys(digests)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            seen = os.fstat(file.fileno())
            if not stat.S_ISREG(seen.st_mode) or seen.st_size > MAX_FILE_BYTES:
                raise ConfigError(
                    f"{path} is no key file: a regular file of {MAX_FILE_BYTES >> 10} KiB at most."
                )
            if os.name == "posix" and seen.st_mode & 0o077:
                raise ConfigError(
                    f"{path} can be read by others (mode {seen.st_mode & 0o777:o}); "
                    f"'chmod 600 {path}' first."
                )
            return file.read(MAX_FILE_BYTES).decode()
    except OSError as e:
        raise ConfigError(f"cannot read the key file {path}: {e.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no key file: it is not UTF-8. {FORM}.") from None
