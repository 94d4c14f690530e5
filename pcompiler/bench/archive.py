"""Saved runs: one JSON file each, which names its schema; read back as strictly as written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pcompiler.bench import ROOT
from pcompiler.bench.calibration import Calibration
from pcompiler.bench.harness import Figure, Histogram
from pcompiler.bench.memory import Peak
from pcompiler.bench.report import as_json
from pcompiler.bench.runs import SCHEMA, Part, Run
from pcompiler.errors import InputError, MismatchError, NotFoundError

ASIDE = ("alerts", "profile")  # in the JSON beside the run: derived from it, or another matter
FOLDER = ROOT / "benches" / "results" / "runs"


def place(name: str, force: bool = False, folder: Path = FOLDER) -> Path:
    """Where a run of this name is to be saved.

    Raises:
        InputError: the name has path parts, or is taken and ``force`` is not given.
    """
    if not name or name.startswith(".") or Path(name).name != name or "\\" in name:
        raise InputError(f"{name!r}: a run's name is a file's name without a folder, as in v0.1.")
    path = folder / f"{name}.json"
    if path.exists() and not force:
        raise InputError(f"{path} exists; give another name, or --force to overwrite it.")
    return path


def find(name: str, folder: Path = FOLDER) -> Path:
    """The file of a run: a path of one, or the name that one was saved under.

    Raises:
        NotFoundError: neither; lists the names there are.
    """
    for path in (Path(name), folder / f"{name}.json"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in folder.glob("*.json"))) or "none"
    raise NotFoundError(f"no run {name!r}: neither a file nor a saved one; saved are: {known}.")


def write(run: Run, path: Path) -> None:
    """Whole or not at all; an older file of this name is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(as_json(run), ensure_ascii=False, indent=1, allow_nan=False)
    half = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        half.write_text(text + "\n", encoding="utf-8")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def read(path: Path) -> Run:
    """A run as it was written.

    Raises:
        InputError: the file is not a run's, or holds a number that is not finite.
        MismatchError: it is of another schema.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        return from_json(data)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as e:
        raise InputError(f"{path}: it cannot be read as JSON: {e}.") from e
    except (InputError, MismatchError) as e:
        raise type(e)(f"{path}: {e}") from e


def from_json(data: Any) -> Run:  # noqa: ANN401 - whatever a file holds
    """The reverse of ``report.as_json``.

    Raises:
        InputError: a field is missing, not known, or not of its type.
        MismatchError: it is of another schema.
    """
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int):
        raise InputError("it is not a saved run; make one with python -m pcompiler.bench --save.")
    if data["schema"] == 2:  # before memory was watched, and goals told from references
        data = {**data, "schema": SCHEMA}
    if data["schema"] != SCHEMA:
        what = "a newer pcompiler; update it" if data["schema"] > SCHEMA else "an older pcompiler"
        raise MismatchError(
            f"it has schema {data['schema']}, of {what}; this one reads {SCHEMA}. "
            "Otherwise measure it again."
        )
    try:
        figures = tuple(_figure(fields) for fields in data["figures"])
        parts = tuple(_part(fields) for fields in data["parts"])
        kept = {name: value for name, value in data.items() if name not in ASIDE}
        return Run(**{**kept, "figures": figures, "parts": parts})
    except (KeyError, TypeError, AttributeError) as e:
        raise InputError(f"it is not a whole run: {e}.") from e


def _figure(fields: Mapping[str, Any]) -> Figure:
    for name in ("value", "reference", "goal", "baseline", "spread", "cpu_s", "tolerance"):
        if fields.get(name) is not None or name == "value":
            _number(fields[name], name)
    if fields["better"] not in ("higher", "lower"):
        raise InputError(f"better {fields['better']!r}: it is higher or lower.")
    read = {name: _histogram(fields, name) for name in ("histogram", "baseline_histogram")}
    return Figure(**{**fields, "samples": _numbers(fields, "samples"), **read})


def _histogram(fields: Mapping[str, Any], name: str) -> Histogram:
    pairs = fields.get(name, ())
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise InputError(f"{name}: it is a list of pairs, lower end and count.")
    return tuple((_number(low, name), int(_number(count, name))) for low, count in pairs)


def _part(fields: Mapping[str, Any]) -> Part:
    before, after = (
        Calibration(_numbers(fields[when], "wall_s"), _numbers(fields[when], "cpu_s"))
        for when in ("before", "after")
    )
    seconds = _number(fields["seconds"], "seconds")
    return Part(fields["suite"], seconds, before, after, _peak(fields.get("peak")))


def _peak(fields: Mapping[str, Any] | None) -> Peak | None:
    if fields is None:
        return None
    device = fields["device_bytes"]
    host = int(_number(fields["host_bytes"], "host_bytes"))
    return Peak(host, None if device is None else int(_number(device, "device_bytes")))


def _numbers(fields: Mapping[str, Any], name: str) -> tuple[float, ...]:
    return tuple(_number(value, name) for value in fields[name])


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} {value!r}: it is not a number.")
    return value


def _refuse(constant: str) -> None:
    raise InputError(f"it holds {constant}; figures are finite numbers.")
