"""What is looked at in every request before anything is done for it."""

from __future__ import annotations

import ipaddress
import re
from itertools import accumulate
from urllib.parse import urlsplit

from pcompiler.serve.http.refusals import Refusal

MAX_DEPTH = 32  # of a JSON body
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_OTHERS = bytes(sorted(set(range(256)) - set(b"{}[]")))
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_host(host: str | None, allowed: frozenset[str]) -> None:
    """Refuse names that are not ours: a page elsewhere may point its own name at this machine."""
    name = (host or "").rpartition(":")[0] if _has_port(host or "") else (host or "")
    if name.lower() not in allowed:
        raise Refusal(
            421,
            f"this server is {', '.join(sorted(allowed))}; ask it by one of these.",
            code="host",
        )


def _has_port(host: str) -> bool:
    name, colon, port = host.rpartition(":")
    return bool(colon) and port.isdigit() and not (":" in name and not name.endswith("]"))


def check_origin(origin: str | None, host: str | None) -> None:
    """Refuse what a page of another site asks for, where it changes or costs something."""
    if origin is not None and urlsplit(origin).netloc != host:
        raise Refusal(403, "pages of other sites may not use this server.", code="origin")


def check_json(content_type: str | None, body: bytes) -> None:
    """Refuse a body that says it is no JSON, or that is nested too deep to be read safely."""
    kind, _, parameters = (content_type or "").partition(";")
    charset = parameters.lower().replace('"', "").replace(" ", "")
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Refusal(415, "send JSON, with Content-Type: application/json.", code="content_type")
    if depth(body) > MAX_DEPTH:
        raise Refusal(400, f"the JSON is nested deeper than {MAX_DEPTH} levels.", code="depth")


def depth(body: bytes) -> int:
    """How deep brackets are nested, outside of strings."""
    brackets = _STRING.sub(b"", body).translate(None, _OTHERS)
    return max(accumulate((1 if b in b"{[" else -1 for b in brackets), initial=0))
