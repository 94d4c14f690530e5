"""Where machines share artifacts: what the setting ``remote`` of [store] may be."""

from __future__ import annotations

from urllib.parse import urlsplit

from pcompiler.errors import ConfigError

REMOTES = ("s3", "gs", "az", "file")
SWEPT_AFTER_H = 24.0  # what a remote has had for so long, and nothing names, nothing will
REMOTE_RANGES: dict[str, tuple[float, float]] = {  # seconds
    "remote_timeout_s": (0.1, 600),
    "remote_close_s": (0, 3_600),
    "remote_absent_s": (0, 3_600),
}


def check_remote(url: str) -> None:
    """Refuse what can be no remote; an empty one is none. Raises ConfigError, without the URL."""
    parts = urlsplit(url)
    place = parts.path.strip("/") if parts.scheme == "file" else parts.netloc
    if url and (parts.scheme not in REMOTES or not place or "?" in url or "#" in url):
        schemes = ", ".join(f"{scheme}://" for scheme in REMOTES)
        raise ConfigError(
            f"the remote has to begin with one of {schemes}, name a bucket or a folder, as in "
            "s3://bucket/team or file:///mnt/shared, and have no '?' or '#'."
        )
    if "@" in parts.netloc or (parts.scheme == "file" and parts.netloc):
        raise ConfigError(
            "the remote names a user or a host: credentials come from the environment, and a "
            "file:// has three slashes."
        )
