"""What an error of the library is to those who asked."""

from __future__ import annotations

from pcompiler.errors import (
    Busy,
    DamageError,
    GateMissed,
    MismatchError,
    NotFoundError,
    Overloaded,
    PcompilerError,
    RemoteError,
    StoreUnavailable,
    UserError,
)

# The first that fits: an error of the library → status, OpenAI's type, our code.
KINDS: tuple[tuple[type[PcompilerError], int, str, str], ...] = (
    (Busy, 429, "rate_limit_error", "busy"),
    (Overloaded, 503, "server_error", "unavailable"),
    (NotFoundError, 404, "invalid_request_error", "not_found"),
    (MismatchError, 409, "invalid_request_error", "mismatch"),
    (StoreUnavailable, 503, "server_error", "store_unavailable"),
    (RemoteError, 503, "server_error", "remote_unavailable"),
    (GateMissed, 422, "invalid_request_error", "gate_missed"),
    (UserError, 400, "invalid_request_error", "invalid"),
    (DamageError, 500, "server_error", "damaged"),
    (PcompilerError, 500, "server_error", "internal"),
)


def kind_of(error: PcompilerError) -> tuple[int, str, str]:
    """The HTTP status, OpenAI's type and our code."""
    return next(row[1:] for row in KINDS if isinstance(error, row[0]))
