"""One exception tree. Every message says what was given, what is allowed, what to do next.

PcompilerError
├── UserError            exit 2: the caller can mend it
│   ├── InputError           a prompt, query file or marked-up part that cannot be read
│   ├── ConfigError          a setting outside its range
│   │   └── BudgetError          fewer tokens than what has to stay takes
│   ├── DeviceError          a device or dtype that this machine does not have
│   ├── ModelError           a model that is not there, or is not of a supported family
│   ├── NotFoundError        an artifact that is not in the store
│   ├── StoreUnavailable     a store that is locked, read-only or full
│   ├── MismatchError        an artifact of another model, tokenizer or newer format
│   ├── VectorError          embeddings of another dimension or encoder, or not finite
│   ├── RemoteError          a server of embeddings or artifacts that does not answer as it should
│   └── SolveError           a linear system that has no finite, unique solution
├── Overloaded           exit 2: of the server, for now: come back after retry_after_s
│   ├── Busy                 more work is waiting than the server takes on
│   └── Gone                 the process that does the work died, or is starting
├── GateMissed           exit 1: the artifact is less faithful than was asked for
├── KernelError          exit 3: a fast path whose result is not that of plain torch
└── DamageError          exit 3: bytes that are not what was written
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcompiler.ir import Fidelity


class PcompilerError(Exception):
    """Base of everything that pcompiler raises on purpose."""

    exit_code = 2


class UserError(PcompilerError):
    """Something the caller gave, or the caller's machine, is in the way."""


class InputError(UserError):
    """A prompt, query file or marked-up part that cannot be read."""


class ConfigError(UserError):
    """A setting outside its range."""


class BudgetError(ConfigError):
    """Fewer tokens were asked for than what has to stay takes."""


class DeviceError(UserError):
    """A device or dtype that this machine does not have."""


class ModelError(UserError):
    """A model that is not there, or is not of a supported family."""


class NotFoundError(UserError):
    """An artifact that is not in the store."""


class StoreUnavailable(UserError):  # noqa: N818 - a state, like BlockingIOError's siblings
    """A store that is locked, read-only or full."""


class MismatchError(UserError):
    """An artifact made for another model or tokenizer, or by a newer pcompiler."""


class VectorError(UserError):
    """Embeddings of another dimension or encoder, or with a NaN."""


class RemoteError(UserError):
    """A server of embeddings, or a shared store, does not answer, refuses, or answers nonsense."""


class SolveError(UserError):
    """A linear system that has no finite, unique solution in the precision that there is."""


class Overloaded(PcompilerError):  # noqa: N818 - a state that passes
    """The server cannot do it now.

    Attributes:
        retry_after_s: when to come back, in seconds.
    """

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Busy(Overloaded):
    """More work is waiting than the server takes on."""


class Gone(Overloaded):
    """The process that does the work died, or is starting."""


class GateMissed(PcompilerError):  # noqa: N818 - an outcome, not a fault
    """The artifact is less faithful than was asked for; it was not stored.

    Attributes:
        measured: how faithful it is.
        size_bytes: of its body, had it been stored.
    """

    exit_code = 1

    def __init__(
        self, message: str, measured: Fidelity | None = None, size_bytes: int | None = None
    ) -> None:
        super().__init__(message)
        self.measured, self.size_bytes = measured, size_bytes


class KernelError(PcompilerError):
    """A fast path whose result is not that of its plain torch twin."""

    exit_code = 3


class DamageError(PcompilerError):
    """Bytes in a store or an artifact file are not what was written."""

    exit_code = 3
