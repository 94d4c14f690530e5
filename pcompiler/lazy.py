"""An attribute that is computed when it is first asked for, and kept.

As ``functools.cached_property`` is from Python 3.12 on. Before, that holds a lock of the whole
class meanwhile, and of several computations side by side the first would keep all others waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class lazy(Generic[T]):  # noqa: N801 - reads as property does
    """Makes a method such an attribute; not for one object in several threads at once."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        # Kept under its own name, where Python looks before it comes here again.
        found: T = self.compute(instance)
        vars(instance)[self._name] = found
        return found
