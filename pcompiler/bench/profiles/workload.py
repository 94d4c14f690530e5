"""What is profiled: one prompt to each kind of artifact, then an artifact at work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pcompiler.bench import ROOT
from pcompiler.compiler import Compiler
from pcompiler.config import Config, ProbeConfig
from pcompiler.errors import InputError
from pcompiler.frontend import read_source
from pcompiler.queries import read_queries

QUICK_CHARACTERS = 1000  # of the prompt, whole paragraphs


@dataclass(frozen=True)
class Workload:
    """One prompt and how it is compiled; the same every time, so that profiles can be compared.

    Attributes:
        source: the prompt.
        queries: held out, to measure fidelity on; the first is asked of the artifact as well.
        config: how many probes are fitted on, and how long answers are.
        factor: of the hybrid's cache.
        rank: of its patch.
        answer_tokens: decoded from the artifact at the end.
    """

    source: str
    queries: tuple[str, ...]
    config: Config
    factor: float
    rank: int
    answer_tokens: int

    def stages(self, compiler: Compiler) -> Mapping[str, Callable[[], object]]:
        """What is profiled, one after the other, by name; the last needs the second."""

        def compile_to(target: str, **settings: float) -> Callable[[], object]:
            return lambda: compiler.compile(
                self.source,
                target,
                self.queries,
                **settings,  # type: ignore[arg-type]
            )

        def answer() -> None:
            # Found in the store, not compiled again.
            found = compiler.compile(
                self.source, "hybrid", self.queries, factor=self.factor, rank=self.rank
            )
            with compiler.session(found) as session:
                session.generate(self.queries[0], max_tokens=self.answer_tokens)

        return {
            "compile kv": compile_to("kv"),
            "compile hybrid": compile_to("hybrid", factor=self.factor, rank=self.rank),
            "compile text": compile_to("text", rate=0.5),
            "attach and generate": answer,
        }

    def warm_up(self, compiler: Compiler) -> None:
        """Load what is loaded at first use, so that no stage is charged for it."""
        compiler.full_prompt(self.source).generate(self.queries[0], max_tokens=2)


def support_desk(quick: bool = False) -> Workload:
    """The example prompt: its beginning with few probes when quick, else all of it.

    Raises:
        InputError: there is no examples/ beside the package.
    """
    example = ROOT / "examples" / "support_desk.md"
    if not example.is_file():
        raise InputError("profiles need examples/, which only a source checkout has.")
    source = read_source(example)
    queries = tuple(p.query for p in read_queries(example.with_suffix(".queries.jsonl")))
    if not quick:
        return Workload(source, queries[:8], Config(probes=ProbeConfig(fitting=24)), 10, 16, 24)
    source = source[: source.rindex("\n\n", 0, QUICK_CHARACTERS)]
    config = Config(probes=ProbeConfig(fitting=12, query_tokens=8, answer_tokens=4))
    return Workload(source, queries[:2], config, 4, 4, 8)
