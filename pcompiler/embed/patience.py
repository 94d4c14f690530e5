"""How long to wait before a busy server is asked again."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

RETRIED = (429, 503)
FIRST_S = 0.5  # doubled with each try, where the server does not say
MOST_S = 60.0  # a server that asks for more is not waited for


def wait_s(retry_after: str | None, attempt: int) -> float | None:
    """Seconds until the next try; None: too long to wait.

    Args:
        retry_after: the header: seconds or an HTTP date (RFC 9110, 10.2.3); None: not sent.
        attempt: how often it was tried before, from 0.
    """
    asked = None if retry_after is None else _seconds(retry_after.strip())
    seconds = min(FIRST_S * 2**attempt, MOST_S) if asked is None else max(0.0, asked)
    return seconds if seconds <= MOST_S else None


def _seconds(value: str) -> float | None:
    """None for what is neither a number nor a date."""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return (when - datetime.now(timezone.utc)).total_seconds()
