"""What a compile came to, reported: seconds, stages, tokens, fidelity."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pcompiler import meter
from pcompiler.clock import Clock
from pcompiler.errors import GateMissed
from pcompiler.measures import TARGETS

if TYPE_CHECKING:
    from pcompiler.store.artifact import Header

STAGES = ("compile", "measure", "probing", "walk", "solving")
Compile = TypeVar("Compile", bound=Callable[..., Any])


def reported(compile_prompt: Compile) -> Compile:
    """The same ``compile_prompt``; says what each call came to, whatever that was."""

    @wraps(compile_prompt)
    def run(work: object, target_name: str, store: object, gates: object) -> object:
        clock, result = Clock(), "failed"
        try:
            done = compile_prompt(work, target_name, store, gates)
            result = "cached" if done.cached else "compiled"
        except GateMissed:
            result = "missed"
            raise
        finally:
            if target_name in TARGETS:  # another name is an error of its own
                took = clock.elapsed()
                meter.observe("compile_seconds", took, target=target_name, result=result)
        if not done.cached:
            _report(done.header)
        return done

    return cast("Compile", run)


def _report(header: Header) -> None:
    target = header.target
    for stage in STAGES:
        if f"{stage}_s" in header.timing:
            meter.observe("compile_stage_seconds", header.timing[f"{stage}_s"], stage=stage)
    meter.count("prompt_tokens", header.context_tokens, target=target, side="in")
    meter.count("prompt_tokens", header.kept_tokens, target=target, side="out")
    meter.observe("fidelity_kl", header.fidelity.kl, target=target)
    meter.observe("fidelity_agreement", header.fidelity.agreement, target=target)
