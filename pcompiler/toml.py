"""A TOML file as a dataclass of dataclasses: its sections, each checked against what is known."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any, TypeVar

from pcompiler.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def read_toml(kind: type[T], path: str | Path) -> T:
    """Read a file; what it leaves out keeps its default.

    Args:
        kind: a dataclass whose fields are sections, each made by its default factory.
        path: of the file.

    Raises:
        ConfigError: not readable, not TOML, an unknown name, or a value out of range.
    """
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise ConfigError(f"cannot read the configuration {path}: {e}") from e
    fields: Any = dataclasses.fields(kind)  # type: ignore[arg-type]
    sections = {f.name: f.default_factory for f in fields}
    _check_names(data, sections, f"section in {path}")
    return kind(**{name: _section(sections[name], data[name], name, path) for name in data})


def _check_names(given: Any, allowed: Any, what: str) -> None:  # noqa: ANN401 - raw TOML
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        raise ConfigError(f"unknown {what}: {', '.join(unknown)}; known: {', '.join(allowed)}.")


def _section(kind: Any, values: Any, name: str, path: str | Path) -> Any:  # noqa: ANN401
    if not isinstance(values, dict):
        raise ConfigError(f"[{name}] in {path} must be a section, not a value.")
    defaults = dataclasses.asdict(kind())
    _check_names(values, defaults, f"setting in [{name}] of {path}")
    for key, value in values.items():
        want, types = _wanted(defaults[key])
        if type(value) not in types:
            raise ConfigError(f"{name}.{key} = {value!r} in {path} must be {want}.")
    return kind(**values)


def _wanted(default: object) -> tuple[str, tuple[type, ...]]:
    """What a setting has to be, in words and as types; numbers may be off by default."""
    if isinstance(default, bool):
        return "true or false", (bool,)
    if default is None or isinstance(default, int | float):
        return "a number", (int,) if isinstance(default, int) else (int, float)
    return "a text", (str,)
