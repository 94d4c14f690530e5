"""Runs a peer's script with another interpreter: a job in, a result out, both JSON files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def run(name: str, python: Path, script: Path, model_folder: Path, job: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Run ``script --model FOLDER --job FILE --out FILE``.

    Args:
        name: of the peer, for messages.
        python: interpreter of the environment that has it.
        script: what it runs.
        model_folder: a transformers model in safetensors.
        job: see the script.

    Returns:
        The result; None, with a line on standard error, where that environment is not there.

    Raises:
        RuntimeError: the peer failed; with the end of what it said.
    """
    if not python.is_file():
        readme = script.parent / "README.md"
        print(f"{name} skipped: {python} is not there (see {readme}).", file=sys.stderr)
        return None
    with tempfile.TemporaryDirectory() as scratch:
        request, result = Path(scratch) / "job.json", Path(scratch) / "result.json"
        request.write_text(json.dumps(job), encoding="utf-8")
        # -I keeps this project off the peer's path: its kernels/ folder breaks transformers < 5.16.
        words = [python, "-I", script, "--model", model_folder, "--job", request, "--out", result]
        done = subprocess.run(  # noqa: S603 - a list of arguments, no shell
            [str(word) for word in words],
            cwd=scratch,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed ({done.returncode}): …{done.stderr[-2000:]}")
        return json.loads(result.read_text(encoding="utf-8"))
