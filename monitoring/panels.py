"""What the dashboards show: rows of panels with their queries; ``grafana`` draws them."""

from __future__ import annotations

from dataclasses import dataclass

from pcompiler.alerts import ALERTS
from pcompiler.measures import METRICS

WINDOW = "$__rate_interval"  # Grafana fills it in: four scrapes at least
LIMITS = {alert.name: alert.limit for alert in ALERTS}


@dataclass(frozen=True)
class Query:
    """One PromQL expression; in its legend, {{label}} is filled in."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One graph.

    Attributes:
        title: of the graph.
        unit: as Grafana calls it.
        queries: one or more.
        limit: of an alert, drawn as a line; none: there is none.
        text: what the title does not say.
    """

    title: str
    unit: str
    queries: tuple[Query, ...]
    limit: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Board:
    """One dashboard: its file's name, title and rows of panels."""

    name: str
    title: str
    rows: dict[str, tuple[Panel, ...]]


def rate(name: str, *by: str, **labels: str) -> Query:
    """A counter's growth a second."""
    return Query(_sum(f"rate({_series(name, **labels)}[{WINDOW}])", by), _legend(by, name))


def state(name: str, *by: str, **labels: str) -> Query:
    """How a gauge stands."""
    return Query(_sum(_series(name, **labels), by), _legend(by, name))


def quantile(share: float, name: str, *by: str, **labels: str) -> Query:
    """What so many of a histogram's measurements do not exceed."""
    grown = f"rate({_series(name, '_bucket', **labels)}[{WINDOW}])"
    expression = f"histogram_quantile({share:g}, {_sum(grown, (*by, 'le'))})"
    return Query(expression, f"p{100 * share:g} {_legend(by, '')}".strip())


def mean(name: str, *by: str, **labels: str) -> Query:
    """Of a histogram's measurements."""
    total, count = (
        _sum(f"rate({_series(name, part, **labels)}[{WINDOW}])", by) for part in ("_sum", "_count")
    )
    return Query(f"{total} / {count}", f"mean {_legend(by, '')}".strip())


def calls(name: str, *by: str, **labels: str) -> Query:
    """How many measurements a histogram gets a second."""
    series = _series(name, "_count", **labels)
    return Query(_sum(f"rate({series}[{WINDOW}])", by), _legend(by, name))


def share(name: str, label: str, value: str, *by: str) -> Query:
    """Of a counter's growth, how much has this value of a label; 0 to 1."""
    one, all_ = rate(name, *by, **{label: value}), rate(name, *by)
    return Query(f"{one.expression} / {all_.expression}", _legend(by, value))


def _series(name: str, part: str = "", **labels: str) -> str:
    chosen = ", ".join(f'{label}="{value}"' for label, value in labels.items())
    return METRICS[name].exported + part + (f"{{{chosen}}}" if chosen else "")


def _sum(expression: str, by: tuple[str, ...]) -> str:
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def _legend(by: tuple[str, ...], otherwise: str) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in by) or otherwise.replace("_", " ")


def _p50_p99(name: str, *by: str, **labels: str) -> tuple[Query, Query]:
    return quantile(0.5, name, *by, **labels), quantile(0.99, name, *by, **labels)


_MEMORY = (
    Query(f"sum({METRICS['memory_bytes'].exported})", "in use"),
    Query(f"max({METRICS['memory_limit_bytes'].exported})", "limit"),
)
_SAVED_BYTES = Query(
    "1 - "
    + rate("compression_bytes", "content", operation="compress", side="out").expression
    + " / "
    + rate("compression_bytes", "content", operation="compress", side="in").expression,
    "{{content}}",
)
_HITS = Panel(
    "Cache hits", "percentunit", (share("cache_requests", "result", "hit", "cache"),),
    LIMITS["LowCacheHitRate"] / 100,
)  # fmt: skip
_COMPILES = Panel(
    "Compile, p95 of those not found in the store", "s",
    (quantile(0.95, "compile_seconds", "target", result="compiled"),), LIMITS["SlowCompilation"],
)  # fmt: skip
_STORE_P99 = Panel("Store, p99", "s", (quantile(0.99, "store_seconds", "operation"),),
                   LIMITS["SlowStorage"], "Of gets and puts one in 64 is timed.")  # fmt: skip

OVERVIEW = Board("prompt_compiler_overview", "Prompt compiler: overview", {
    "Requests": (
        Panel("Requests by status", "reqps", (rate("http_requests", "status"),)),
        Panel("Requests by route", "reqps", (rate("http_requests", "route"),)),
        Panel("Time to answer", "s", _p50_p99("http_seconds", "route")),
    ),
    "Compiling": (
        Panel("Compiles by outcome", "ops",
              (calls("compile_seconds", "result"),)),
        _COMPILES,
        Panel("Agreement with the full prompt, mean", "percentunit",
              (mean("fidelity_agreement", "target"),)),
    ),
    "Answers": (
        Panel("Time to first token", "s", _p50_p99("generation_ttft_seconds")),
        Panel("Tokens read, saved and answered", "short", (rate("generation_tokens", "side"),),
              text="Saved: of artifacts in place of their prompts."),
        _HITS,
    ),
    "Store and machine": (
        Panel("Artifacts", "short", (state("store_keys", family="artifacts"),)),
        _STORE_P99,
        Panel("Memory", "bytes", _MEMORY),
    ),
})  # fmt: skip

DYNAMICS = Board("weight_dynamics_analysis", "Prompt compiler: weight dynamics", {
    "Solvers": (
        Panel("Iterations", "short", (quantile(0.5, "solver_iterations", "solver"),
                                      quantile(0.95, "solver_iterations", "solver")),
              LIMITS["ManyIterations"]),
        Panel("Residual", "sci", _p50_p99("solver_residual", "solver")),
        Panel("Time of a solve", "s", _p50_p99("solver_seconds", "solver")),
        Panel("Solves by outcome", "ops", (rate("solves", "solver", "outcome"),)),
    ),
    "Updates and patches": (
        Panel("Exact updates", "ops", (rate("exact_updates"),),
              text="Of one token in one layer."),
        Panel("Time of a call for exact updates", "s", _p50_p99("exact_updates_seconds")),
        Panel("Layers with a patch, and left out", "ops", (rate("patched_layers", "outcome"),)),
        Panel("Time of one layer's patch", "s", _p50_p99("patch_layer_seconds")),
    ),
    "Fidelity": (
        Panel("KL from the full prompt", "short", _p50_p99("fidelity_kl", "target"),
              text="Nats for each answer token, on held-out probes."),
        Panel("Agreement with the full prompt", "percentunit",
              (mean("fidelity_agreement", "target"),)),
        Panel("Stages of a compile, mean", "s", (mean("compile_stage_seconds", "stage"),)),
        Panel("Passes over a prompt, mean", "s", (mean("pass_seconds", "step"),)),
    ),
})  # fmt: skip

STORAGE = Board("storage_performance", "Prompt compiler: storage", {
    "Operations": (
        Panel("Operations", "ops", (rate("store_operations", "operation"),)),
        Panel("Store, median", "s", (quantile(0.5, "store_seconds", "operation"),)),
        _STORE_P99,
        Panel("Keys found", "percentunit", (share("store_lookups", "result", "hit", "family"),)),
    ),
    "Records": (
        Panel("Records", "short", (state("store_keys", "family"),), text="RocksDB's estimate."),
        Panel("Records a second", "ops", (rate("store_records", "family", "side"),)),
        Panel("Bytes a second", "Bps", (rate("store_bytes", "family", "side"),)),
    ),
    "RocksDB": (
        Panel("Block cache", "bytes", (state("rocksdb_block_cache_bytes", "state"),)),
        Panel("Memtables", "bytes", (state("rocksdb_memtable_bytes"),)),
        Panel("Tables on the disk", "bytes", (state("rocksdb_sst_bytes"),
                                             state("disk_free_bytes"))),
        Panel("To be compacted", "bytes", (state("rocksdb_pending_compaction_bytes"),)),
    ),
    "Shared artifacts": (
        Panel("Reads from the remote", "ops", (calls("remote_read_seconds", "result"),),
              text="Refused: damaged there, or of a newer format. Failed: no answer."),
        Panel("Tries to upload", "ops", (calls("remote_upload_seconds", "result"),),
              text="Failed: tried again. Given up: damaged here."),
        Panel("Artifacts to be uploaded", "short", (state("remote_waiting"),)),
        Panel("Time to read an artifact", "s",
              _p50_p99("remote_read_seconds", result="hit")),
        Panel("Time to upload an artifact", "s",
              _p50_p99("remote_upload_seconds", result="done")),
        Panel("Bytes from and to the remote", "Bps", (rate("remote_bytes", "side"),)),
    ),
    "Compression and vectors": (
        Panel("Bytes saved by zstd", "percentunit", (_SAVED_BYTES,)),
        Panel("zstd, bytes in", "Bps", (rate("compression_bytes", "content", "operation",
                                             side="in"),)),
        Panel("Vectors made", "ops", (rate("embedding_texts", "provider"),)),
        _HITS,
    ),
})  # fmt: skip

HEALTH = Board("system_health", "Prompt compiler: system health", {
    "Processes": (
        Panel("Memory, all", "bytes", _MEMORY),
        Panel("Memory by process", "bytes", (state("memory_bytes", "process"),)),
        Panel("CPU by process", "short", (rate("cpu_seconds", "process"),), text="Cores in use."),
        Panel("Processes", "short", (state("processes", "process"),)),
        Panel("Open files", "short", (state("open_files", "process"),)),
        Panel("Threads", "short", (state("threads", "process"),)),
    ),
    "Load": (
        Panel("Requests in flight", "short", (state("http_in_flight"),)),
        Panel("Queues", "short", (state("queue_length", "queue"),)),
        Panel("Wait for a slot", "s", _p50_p99("generation_wait_seconds")),
        Panel("Answers side by side, mean", "short", (mean("generation_batch_size"),)),
        Panel("Between two tokens", "s", _p50_p99("generation_gap_seconds")),
        Panel("Jobs by outcome", "ops", (rate("compile_jobs", "outcome"),)),
    ),
    "Errors": (
        Panel("Requests that failed here", "percentunit",
              (share("http_requests", "status", "5xx"),)),
        Panel("Answers by how they ended", "ops", (rate("generations", "outcome"),)),
        Panel("Compiles that failed", "ops",
              (calls("compile_seconds", "target", result="failed"),)),
    ),
})  # fmt: skip

BOARDS = (OVERVIEW, DYNAMICS, STORAGE, HEALTH)
