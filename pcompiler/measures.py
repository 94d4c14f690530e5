"""The table of all metrics: every number that a component reports has its row here.

Prometheus sees ``pcompiler_NAME``, counters with ``_total`` after it. Labels take the values that
are listed and no others, so the number of series is known: it does not grow with what clients send.
A limit of ``alerts`` on a histogram is one of its bucket bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["counter", "histogram", "gauge"]
Section = Literal[
    "compilation", "weight_dynamics", "compression", "storage", "embedding", "serving", "process"
]
Across = Literal["livesum", "livemax", "livemostrecent"]
Labels = Mapping[str, tuple[str, ...]]

TARGETS = ("kv", "weights", "hybrid", "text")
FAMILIES = (
    *("artifacts", "tensors", "prompts", "probes", "dictionaries"),
    *("embeddings", "names", "drafts", "uploads", "quarantine", "metadata"),
)
ROUTES = (
    *("/", "/healthz", "/readyz", "/openapi.json", "/metrics", "/metrics/{section}"),
    *("/v1/compile", "/v1/jobs/{id}", "/v1/artifacts", "/v1/artifacts/{id}", "/v1/search"),
    *("/v1/artifacts/{id}/changes", "/v1/segments"),
    *("/v1/embeddings", "/v1/chat/completions", "/v1/models", "other"),
)
HIT_OR_MISS = ("hit", "miss")

FAST_S = (5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.05, 0.2, 1.0)
MODEL_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
HTTP_S = (5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.045, 0.1, 0.18, 0.5, 1.0, 5.0, 30.0, 120.0)
STEPS = (1, 2, 3, 5, 10, 20, 50, 100, 150, 200, 500, 1000)


class MeasureError(LookupError):
    """A name, kind, label or value of a label that the table does not have: our own mistake."""


@dataclass(frozen=True)
class Metric:
    """One row.

    Attributes:
        name: as components report it.
        kind: counter: only grows; gauge: how things stand; histogram: of single measurements.
        section: which page of /metrics it is on; all are on /metrics.
        help: what it is, and what is special about it.
        unit: of its values, in full.
        labels: by name, the values that it may take.
        buckets: upper bounds, of a histogram.
        across: how a gauge's values of several processes become one.
    """

    name: str
    kind: Kind
    section: Section
    help: str
    unit: str
    labels: Labels = field(default_factory=dict)
    buckets: tuple[float, ...] = ()
    across: Across = "livesum"

    @property
    def exported(self) -> str:
        """Its name in Prometheus; a histogram's series have _bucket, _sum or _count after it."""
        return f"pcompiler_{self.name}" + ("_total" if self.kind == "counter" else "")

    @property
    def combinations(self) -> int:
        """How many label sets there can be."""
        return math.prod(map(len, self.labels.values()))

    def values(self, given: Mapping[str, str]) -> tuple[str, ...]:
        """The label values in the row's order.

        Raises:
            MeasureError: a label that is missing, too many, or has another value than is listed.
        """
        if given.keys() != self.labels.keys():
            raise MeasureError(f"{self.name} has labels {list(self.labels)}, not {list(given)}.")
        for label, allowed in self.labels.items():
            if given[label] not in allowed:
                raise MeasureError(
                    f"{self.name}: {label} is {given[label]!r}; it may be {', '.join(allowed)}."
                )
        return tuple(given[label] for label in self.labels)


_TARGET: Labels = {"target": TARGETS}
_SOLVER: Labels = {"solver": ("direct", "conjugate_gradients", "gradient_descent")}
_CONTENT: Labels = {"content": ("tensors", "texts"), "operation": ("compress", "decompress")}
_PROVIDER: Labels = {"provider": ("encoder", "static", "remote")}
_PROCESS: Labels = {"process": ("supervisor", "worker", "generator", "compiler", "library")}
_QUEUE: Labels = {"queue": ("generate", "embed", "compile")}

_COMPILATION = (
    Metric(
        "compile_seconds", "histogram", "compilation",
        "Compiling one prompt to one target; cached: it was in the store; missed: less faithful "
        "than the gates ask for; failed: any other error.",
        "seconds",
        {**_TARGET, "result": ("compiled", "cached", "missed", "failed")}, MODEL_S,
    ),
    Metric("compile_stage_seconds", "histogram", "compilation",
           "Stages of a compile: compile is building and storing, measure is fidelity.", "seconds",
           {"stage": ("compile", "measure", "probing", "walk", "solving")}, MODEL_S),
    Metric("prompt_tokens", "counter", "compilation",
           "Tokens of prompts compiled (in), and those that stand before a query after it (out).",
           "tokens", {**_TARGET, "side": ("in", "out")}),
    Metric("fidelity_kl", "histogram", "compilation",
           "KL of an artifact from the full prompt, on held-out probes.", "nats per token",
           _TARGET, (1e-6, 1e-4, 1e-3, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)),
    Metric("fidelity_agreement", "histogram", "compilation",
           "Share of answer tokens on which an artifact agrees with the full prompt.", "ratio",
           _TARGET, (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 0.999, 1.0)),
    Metric("pass_seconds", "histogram", "compilation",
           "One pass over one prompt; shorten ranks and prunes.", "seconds",
           {"step": ("normalize", "deduplicate", "protect", "shorten")}, FAST_S),
    Metric("pass_tokens", "counter", "compilation",
           "Tokens that shortening was given and left.", "tokens", {"side": ("in", "out")}),
)  # fmt: skip

_WEIGHT_DYNAMICS = (
    Metric("solver_iterations", "histogram", "weight_dynamics",
           "Steps of one solve; a direct solver takes none.", "steps", _SOLVER, STEPS),
    Metric("solver_residual", "histogram", "weight_dynamics",
           "Relative residual of a solve's answer, in float64.", "ratio", _SOLVER,
           (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)),
    Metric("solver_seconds", "histogram", "weight_dynamics",
           "One solve, without the check of its answer.", "seconds", _SOLVER, FAST_S),
    Metric("solves", "counter", "weight_dynamics",
           "Solves by outcome; stopped: after as many steps as were allowed.", "solves",
           {**_SOLVER, "outcome": ("converged", "stopped", "diverged", "failed")}),
    Metric("exact_updates", "counter", "weight_dynamics",
           "Exact updates of one token in one layer.", "updates"),
    Metric("exact_updates_seconds", "histogram", "weight_dynamics",
           "One call for exact updates of all layers, forward passes included.", "seconds", {},
           MODEL_S),
    Metric("patched_layers", "counter", "weight_dynamics",
           "Layers that a static patch was solved for: it was kept, or validation left it out.",
           "layers", {"outcome": ("kept", "left_out")}),
    Metric("patch_layer_seconds", "histogram", "weight_dynamics",
           "Solving for one layer's static patch.", "seconds", {}, FAST_S),
)  # fmt: skip

_COMPRESSION = (
    Metric("compression_bytes", "counter", "compression",
           "Bytes given to zstd and got from it; texts are prompts and probes.", "bytes",
           {**_CONTENT, "side": ("in", "out")}),
    Metric("compression_seconds", "histogram", "compression",
           "One call of zstd.", "seconds", _CONTENT, FAST_S),
)  # fmt: skip

_OPERATIONS: Labels = {
    "operation": ("get", "get_many", "put", "write", "scan", "catch_up"),
}
_STORAGE = (
    Metric("store_operations", "counter", "storage",
           "Operations on records; a get of many, a batch and a scan are one each.", "operations",
           _OPERATIONS),
    Metric("store_seconds", "histogram", "storage",
           "Of every operation but get and put, of which one in 64 is timed; of a scan until its "
           "first record.", "seconds", _OPERATIONS, FAST_S),
    Metric("store_records", "counter", "storage", "Records read and written, by family; deleting "
           "is writing.", "records", {"family": FAMILIES, "side": ("read", "written")}),
    Metric("store_bytes", "counter", "storage",
           "Bytes of records read and written, seals included and keys not.", "bytes",
           {"family": FAMILIES, "side": ("read", "written")}),
    Metric("store_lookups", "counter", "storage", "Keys asked for, and whether they were there.",
           "keys", {"family": FAMILIES, "result": HIT_OR_MISS}),
    Metric("store_keys", "gauge", "storage", "Records in the store, as RocksDB estimates.",
           "records", {"family": FAMILIES}, across="livemostrecent"),
    Metric("rocksdb_block_cache_bytes", "gauge", "storage",
           "RocksDB's block cache: used, and what it may use. Each process has one.", "bytes",
           {"state": ("used", "capacity")}),
    Metric("rocksdb_memtable_bytes", "gauge", "storage", "Memory that holds what was written and "
           "is in no table yet.", "bytes"),
    Metric("rocksdb_sst_bytes", "gauge", "storage", "Tables on the disk.", "bytes",
           across="livemostrecent"),
    Metric("rocksdb_pending_compaction_bytes", "gauge", "storage",
           "What compaction has yet to rewrite.", "bytes", across="livemax"),
    Metric("disk_free_bytes", "gauge", "storage", "Free on the disk that the store is on.",
           "bytes", across="livemostrecent"),
)  # fmt: skip

_REMOTE = (
    Metric("remote_read_seconds", "histogram", "storage",
           "One artifact asked of the remote, with its texts; miss: it has none; refused: what it "
           "has is damaged, or of a newer format; failed: no answer.", "seconds",
           {"result": ("hit", "miss", "refused", "failed")}, HTTP_S),
    Metric("remote_upload_seconds", "histogram", "storage",
           "One try to upload an artifact; failed: it is tried again; given_up: what is here is "
           "damaged.", "seconds", {"result": ("done", "failed", "given_up")}, HTTP_S),
    Metric("remote_bytes", "counter", "storage", "Bytes of objects read from the remote and "
           "written to it; what a failed request carried is not counted.", "bytes",
           {"side": ("read", "written")}),
    Metric("remote_waiting", "gauge", "storage", "Artifacts that wait to be uploaded.",
           "artifacts"),
)  # fmt: skip

_EMBEDDING = (
    Metric("embedding_texts", "counter", "embedding", "Texts that vectors were made of.", "texts",
           _PROVIDER),
    Metric("embedding_seconds", "histogram", "embedding", "One call, of however many texts.",
           "seconds", _PROVIDER, FAST_S),
    Metric("cache_requests", "counter", "embedding",
           "What was asked of a cache; embeddings: a text's vector; prefix: an artifact that is "
           "in place in the generator.", "requests",
           {"cache": ("embeddings", "prefix"), "result": HIT_OR_MISS}),
)  # fmt: skip

_SERVING = (
    Metric("http_requests", "counter", "serving", "Requests answered, by route template.",
           "requests", {"route": ROUTES, "method": ("GET", "POST", "DELETE", "HEAD", "other"),
                        "status": ("2xx", "3xx", "4xx", "5xx", "gone")}),
    Metric("http_seconds", "histogram", "serving",
           "From a request's head to the last byte of its answer.", "seconds", {"route": ROUTES},
           HTTP_S),
    Metric("http_in_flight", "gauge", "serving", "Requests that are being answered.", "requests"),
    Metric("generations", "counter", "serving", "Answers by how they ended; refused: the queue was "
           "full.", "answers", {"outcome": ("stop", "length", "cancelled", "timeout", "failed",
                                            "refused")}),
    Metric("generation_tokens", "counter", "serving",
           "Tokens read before answers, those that an artifact saved, and those answered.",
           "tokens", {"side": ("prompt", "saved", "answer")}),
    Metric("generation_ttft_seconds", "histogram", "serving",
           "From a request's arrival to its first token.", "seconds", {}, MODEL_S),
    Metric("generation_gap_seconds", "histogram", "serving",
           "Between one token of an answer and the next.", "seconds", {}, HTTP_S),
    Metric("generation_wait_seconds", "histogram", "serving", "Waiting for a slot.", "seconds", {},
           HTTP_S),
    Metric("generation_batch_size", "histogram", "serving", "Answers in one decoding step.",
           "answers", {}, (1, 2, 3, 4, 6, 8, 12, 16, 32)),
    Metric("queue_length", "gauge", "serving", "Requests that wait.", "requests", _QUEUE),
    Metric("compile_jobs", "counter", "serving", "Jobs by how they ended.", "jobs",
           {"outcome": ("done", "failed", "cancelled", "refused")}),
)  # fmt: skip

_VITALS = (
    Metric("memory_bytes", "gauge", "process",
           "Memory in use; pages of files, which the system may take back, do not count.",
           "bytes", _PROCESS),
    Metric("memory_limit_bytes", "gauge", "process", "What all processes together may use.",
           "bytes", across="livemax"),
    Metric("cpu_seconds", "counter", "process", "CPU time, user and system.", "seconds", _PROCESS),
    Metric("processes", "gauge", "process", "Processes that report.", "processes", _PROCESS),
    Metric("threads", "gauge", "process", "Threads of Python's.", "threads", _PROCESS),
    Metric("open_files", "gauge", "process", "File descriptors in use.", "files", _PROCESS),
)  # fmt: skip

TABLE = (
    *(*_COMPILATION, *_WEIGHT_DYNAMICS, *_COMPRESSION, *_STORAGE, *_REMOTE),
    *(*_EMBEDDING, *_SERVING, *_VITALS),
)
METRICS = {metric.name: metric for metric in TABLE}


def find(kind: Kind, name: str) -> Metric:
    """The row of this name.

    Raises:
        MeasureError: there is none, or it is of another kind.
    """
    metric = METRICS.get(name)
    if metric is None:
        raise MeasureError(f"there is no metric {name!r}; add it to pcompiler/measures.py.")
    if metric.kind != kind:
        raise MeasureError(f"{name} is a {metric.kind}, and was reported as a {kind}.")
    return metric
