"""Settings: frozen dataclasses, read from TOML and checked. A default exists once, here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pcompiler.errors import ConfigError
from pcompiler.serving import ServeConfig
from pcompiler.sharing import REMOTE_RANGES, check_remote
from pcompiler.toml import read_toml

MIN_DICTIONARY_BYTES, MAX_DICTIONARY_BYTES = 256, 2**20
ZSTD_LEVELS = (*range(-7, 0), *range(1, 23))  # below 0: faster than 1, and larger
MAX_ZSTD_THREADS = 64

FITTING = 56  # probes of self-study to fit a cache or a hybrid on
PRECISIONS = ("auto", "model", "bfloat16")
RANKINGS = ("probes", "surprise", "lexical")
DUPLICATES = ("auto", "exact", "near", "meaning")
DURABILITIES = ("process", "power")
STORE_RANGES: dict[str, tuple[float, float]] = {
    "cache_mb": (0, 2**20),
    "write_buffer_mb": (1, 2**12),
    "block_kb": (1, 2**12),
    "bloom_bits": (0, 32),
    "bottom_level": (1, 22),
    "bottom_dictionary_kb": (0, 1024),
    "background_jobs": (1, 64),
    **REMOTE_RANGES,
}


def _or(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}"


def _require(ok: bool, name: str, value: object, allowed: str) -> None:
    if not ok:
        raise ConfigError(f"{name} = {value!r} is out of range; it must be {allowed}.")


def check_gates(min_agreement: float | None, max_kl: float | None) -> None:
    """Refuse gates out of range. Raises ConfigError."""
    a, k = min_agreement, max_kl
    _require(a is None or 0 <= a <= 1, "min_agreement", a, "a share from 0 to 1")
    _require(k is None or k >= 0, "max_kl", k, "a number of nats, 0 or more")


@dataclass(frozen=True)
class ModelConfig:
    """Which language model, and where it runs."""

    name: str = "smollm2"
    device: str = "auto"
    dtype: str = "auto"


@dataclass(frozen=True)
class CompileConfig:
    """What to build, and how faithful it has to be to be stored."""

    target: str = "kv"
    seed: int = 0
    min_agreement: float | None = None  # share, 0..1
    max_kl: float | None = None  # nats per answer token

    def __post_init__(self) -> None:
        check_gates(self.min_agreement, self.max_kl)
        _require(0 <= self.seed < 2**63, "seed", self.seed, "an integer from 0 to 2^63 - 1")


@dataclass(frozen=True)
class TargetConfig:
    """How small an artifact is to be, and in what form."""

    factor: float | None = None  # prompt tokens over kept ones; kv: exact, hybrid: 10
    budget: str = "global"  # keys: wherever they count most, or as many for every "head"
    bits: int = 16  # of what is stored: 16, or 8 with a scale for each group
    rank: int = 16  # of each layer's patch at most
    budget_bytes: int | None = None  # of the patch; ranks are then shared out by energy
    strength: float | None = None  # of the patch, 0..1; chosen on validation probes
    refine: int = 0  # steps of gradient descent after the closed form
    # text
    rate: float | None = None  # kept tokens over the prompt's; none: nothing is lost
    target_tokens: int | None = None  # the same as a number
    ranking: str = "probes"  # what tells what matters: probes, surprise or lexical
    protect: str = "auto"  # classes of spans, all, none; auto: those that fit
    force: str = ""  # words that stay, with commas between
    section: str = ""  # NAME=RATE of sections, with commas between
    duplicates: str = "auto"  # what goes: exact, near or meaning; auto: near if a rate is given

    def __post_init__(self) -> None:
        f, b, s = self.factor, self.budget_bytes, self.strength
        r, t = self.rate, self.target_tokens
        _require(f is None or 1 <= f <= 10_000, "factor", f, "a number from 1 to 10,000")
        _require(self.budget in ("head", "global"), "budget", self.budget, "head or global")
        _require(self.bits in (8, 16), "bits", self.bits, "8 or 16")
        _require(1 <= self.rank <= 65_536, "rank", self.rank, "an integer from 1 to 65,536")
        _require(b is None or b >= 1, "budget_bytes", b, "1 or more")
        _require(s is None or 0 <= s <= 1, "strength", s, "a number from 0 to 1")
        _require(0 <= self.refine <= 100_000, "refine", self.refine, "from 0 to 100,000 steps")
        _require(r is None or 0 < r <= 1, "rate", r, "above 0 and at most 1")
        _require(t is None or t >= 1, "target_tokens", t, "1 or more")
        if r is not None and t is not None:
            raise ConfigError("rate and target_tokens say the same thing; give one of them.")
        _require(self.ranking in RANKINGS, "ranking", self.ranking, _or(RANKINGS))
        _require(self.duplicates in DUPLICATES, "duplicates", self.duplicates, _or(DUPLICATES))


@dataclass(frozen=True)
class ProbeConfig:
    """What fidelity is measured on, and what patches and caches are fitted on."""

    self_study: int = 16  # held-out queries that the model writes when none are given
    fitting: int | None = None  # queries to fit on, beside the user's; none: as the target asks
    query_tokens: int = 48  # at most, for a query that the model writes
    answer_tokens: int = 24  # at most, for the teacher's answer to any query
    precision: str = "auto"  # of products while they are written, answered and fitted on

    def __post_init__(self) -> None:
        for name in ("self_study", "query_tokens", "answer_tokens"):
            value = getattr(self, name)
            _require(1 <= value <= 4096, name, value, "an integer from 1 to 4096")
        ok = isinstance(self.to_fit, int) and 0 <= self.to_fit <= 65_536
        _require(ok, "fitting", self.fitting, "an integer from 0 to 65,536")
        _require(self.precision in PRECISIONS, "precision", self.precision, _or(PRECISIONS))

    @property
    def to_fit(self) -> int:
        """How many queries self-study makes to fit on."""
        return FITTING if self.fitting is None else self.fitting


@dataclass(frozen=True)
class DecodeConfig:
    """How an answer is drawn."""

    max_tokens: int = 256  # at most; less where the model's window ends
    temperature: float = 0.0  # 0 is greedy
    top_p: float = 0.95  # share of the probability that is sampled from
    seed: int = 0  # of the sampling

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "1 or more")
        _require(0 <= self.temperature < 100, "temperature", self.temperature, "from 0 to 100")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")


@dataclass(frozen=True)
class StoreConfig:
    """Where artifacts are kept, and how hard they are squeezed."""

    path: str = ""  # empty: the user's data folder
    zstd_level: int = 3  # -7 (fastest) to -1, and 1 to 22 (smallest)
    zstd_threads: int = 1  # that compress; 0: as many as there are cores
    zstd_long_distance: bool = False  # find repeats up to 128 MiB back
    dictionary_bytes: int = 112_640  # of what prompts and probes have in common, at most
    durability: str = "process"  # a write survives a killed process; power: a power cut as well
    max_bytes: int | None = None  # of all artifacts; the least recently used make room
    cache_mb: int = 256  # of blocks read before, for all stores of a process; 0: none
    write_buffer_mb: int = 64  # of each family, before it is written to a table
    block_kb: int = 16  # what is read and compressed at once
    bloom_bits: int = 10  # a key, to pass over tables that do not have it; 0: none
    bottom_level: int = 9  # of zstd, where nearly all records end up
    bottom_dictionary_kb: int = 64  # of a dictionary for each table there; 0: none
    background_jobs: int = 2  # threads that write and merge tables
    remote: str = ""  # s3://, gs://, az:// or file://: what machines share; empty: nothing
    remote_timeout_s: float = 10.0  # of a request to it, beside what many bytes take
    remote_close_s: float = 10.0  # for uploads, on closing; the rest waits for the next time
    remote_absent_s: float = 5.0  # in which it is not asked again for what it does not have

    def __post_init__(self) -> None:
        check_remote(self.remote)
        level, threads = self.zstd_level, self.zstd_threads
        _require(level in ZSTD_LEVELS, "zstd_level", level, "from -7 to 22 and not 0")
        allowed = f"from 1 to {MAX_ZSTD_THREADS}, or 0 for all cores"
        _require(0 <= threads <= MAX_ZSTD_THREADS, "zstd_threads", threads, allowed)
        least, most, size = MIN_DICTIONARY_BYTES, MAX_DICTIONARY_BYTES, self.dictionary_bytes
        _require(least <= size <= most, "dictionary_bytes", size, f"from {least} to {most}")
        kind, limit = self.durability, self.max_bytes
        _require(kind in DURABILITIES, "durability", kind, _or(DURABILITIES))
        _require(limit is None or limit >= 1, "max_bytes", limit, "1 or more")
        for name, (low, high) in STORE_RANGES.items():
            value = getattr(self, name)
            _require(low <= value <= high, name, value, f"from {low} to {high}")

    @property
    def folder(self) -> Path:
        """The store's folder; ``~`` is expanded, the default is the user's data folder."""
        if self.path:
            return Path(self.path).expanduser()
        import platformdirs

        return Path(platformdirs.user_data_dir("pcompiler")) / "store"


@dataclass(frozen=True)
class EmbedConfig:
    """What makes vectors of texts. A server's key is in the environment only, never in a file."""

    provider: str = "static"  # static, encoder or remote
    model: str = ""  # encoder: minilm, a folder or hub id; remote: the server's name for it
    precision: str = "auto"  # encoder: auto, float32, bfloat16, float16, int8
    batch: int = 32  # encoder: texts side by side; remote: texts a request
    base_url: str = ""  # remote: http(s)://host/v1
    timeout_s: float = 30.0  # remote: of one request
    retries: int = 3  # remote: after 429 and 503

    def __post_init__(self) -> None:
        _require(1 <= self.batch <= 2048, "batch", self.batch, "an integer from 1 to 2,048")
        t, r = self.timeout_s, self.retries
        _require(0 < t <= 3600, "timeout_s", t, "above 0 and at most 3,600 seconds")
        _require(0 <= r <= 100, "retries", r, "from 0 to 100")


@dataclass(frozen=True)
class Config:
    """All settings; in TOML the fields are sections: [model], [compile] and so on."""

    model: ModelConfig = field(default_factory=ModelConfig)
    compile: CompileConfig = field(default_factory=CompileConfig)
    targets: TargetConfig = field(default_factory=TargetConfig)
    probes: ProbeConfig = field(default_factory=ProbeConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)

    @classmethod
    def load(cls, path: str | Path) -> Config:
        """Read a TOML file; what it leaves out keeps its default.

        Raises:
            ConfigError: not readable, not TOML, an unknown name, or a value out of range.
        """
        return read_toml(cls, path)

    def fingerprint(self, of_target: Sequence[str] = (), *, fitted: bool = True) -> str:
        """Hash of the settings that change an artifact's bytes: not the gates or places.

        Args:
            of_target: the fields of [targets] that the artifact's target goes by.
            fitted: it goes by the fitting probes too.
        """
        probes = dataclasses.asdict(self.probes) | {"fitting": self.probes.to_fit}
        if not fitted:
            del probes["fitting"]
        if self.probes.precision == ProbeConfig.precision:
            del probes["precision"]  # the default's hash is in the ids of what is stored
        chosen = {name: getattr(self.targets, name) for name in of_target}
        relevant = {
            "seed": self.compile.seed,
            # 4 in a file or a call is the 4.0 of the command line.
            "targets": {n: float(v) if isinstance(v, int) else v for n, v in chosen.items()},
            "probes": probes,
            "zstd_level": self.store.zstd_level,
        }
        # Named only where they are set: the default's hash is in the ids of what is stored.
        if self.store.zstd_long_distance:
            relevant["zstd_long_distance"] = True
        if self.store.zstd_threads != 1:  # several threads, however many, give the same bytes
            relevant["zstd_threads"] = "several"
        return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]
