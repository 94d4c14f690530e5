"""``pcompiler verify``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from pcompiler.commands import options, output
from pcompiler.config import Config
from pcompiler.errors import GateMissed
from pcompiler.queries import from_lines
from pcompiler.store.artifact import Artifact
from pcompiler.table import nbytes, percent

KL_SLACK = 1e-3  # nats; another machine rounds otherwise
AGREEMENT_SLACK = 0.01


def run(args: argparse.Namespace) -> int:
    """Check the bytes, then the model, then measure fidelity anew on the recorded probes."""
    config = options.config(args)
    artifact, source = options.load(args.artifact, config)
    artifact.check()
    artifact.tensors()
    header = artifact.header
    result: dict[str, Any] = {"artifact": header.id, "bytes": "ok"}
    lines = [f"bytes     ok: {nbytes(header.size_bytes)}, every checksum matches"]
    if not args.bytes_only:
        from pcompiler import pipeline
        from pcompiler.model import LanguageModel

        settings = options.for_artifact(config, args, header).model
        model = LanguageModel.load(settings.name, settings.device, settings.dtype)
        pipeline.check_model(model, header)
        result["model"] = "ok"
        lines.append(f"model     ok: {model.name} is the one it was compiled for")
        lines.append(_fidelity(artifact, model, source, config, result))
    if args.json:
        output.json_line(result)
    else:
        print("\n".join(lines))
    return 0


def _fidelity(
    artifact: Artifact,
    model: Any,  # noqa: ANN401 - torch stays out of this module's imports
    source: str | None,
    config: Config,
    result: dict[str, Any],
) -> str:
    """Measure again; raises GateMissed if it is not what the header says."""
    from pcompiler import pipeline

    recorded = artifact.header.fidelity
    probes = options.probes_of(artifact.header, config)
    if source is None or probes is None:
        result["fidelity"] = "not measured"
        return "fidelity  not measured: this store does not have the prompt and the probes"
    same = replace(config.probes, answer_tokens=artifact.header.answer_limit)
    config = replace(config, probes=same)
    work = pipeline.Work(source, tuple(from_lines(probes)), model, config)
    measured = pipeline.remeasure(work, artifact)
    result["fidelity"] = {"recorded": vars(recorded), "measured": vars(measured)}
    off_kl = abs(measured.kl - recorded.kl) > KL_SLACK + 0.05 * recorded.kl
    if off_kl or abs(measured.agreement - recorded.agreement) > AGREEMENT_SLACK:
        raise GateMissed(
            f"fidelity is not what the artifact says: KL {measured.kl:.3g} against "
            f"{recorded.kl:.3g}, agreement {percent(measured.agreement)} against "
            f"{percent(recorded.agreement)}. Compile the prompt again."
        )
    return (
        f"fidelity  ok: KL {measured.kl:.2g}, agreement {percent(measured.agreement)}, as recorded"
    )
