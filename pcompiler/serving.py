"""Settings of the server: the [serve] section."""

from __future__ import annotations

from dataclasses import dataclass

from pcompiler.errors import ConfigError

RANGES: dict[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "workers": (1, 64),
    "body_bytes": (2**10, 2**28),
    "prompt_tokens": (1, 2**22),
    "query_tokens": (1, 2**20),
    "answer_tokens": (1, 2**20),
    "texts": (1, 10_000),
    "rate": (0, 1e6),
    "burst": (1, 1_000_000),
    "read_rate": (0, 1e6),
    "read_burst": (1, 1_000_000),
    "concurrency": (1, 10_000),
    "in_flight": (1, 100_000),
    "connections": (1, 100_000),
    "chat_s": (0.1, 3_600),
    "compile_s": (0.1, 86_400),
    "header_s": (0.1, 600),
    "body_s": (0.1, 600),
    "send_s": (0.1, 600),
    "drain_s": (1, 3_600),
    "hang_s": (1, 86_400),
    "follow_s": (0.01, 60),
    "slots": (1, 256),
    "batch_tokens": (1, 2**24),
    "chunk_tokens": (1, 2**16),
    "prefix_cache_mb": (0, 2**20),
    "chat_queue": (1, 100_000),
    "embed_queue": (1, 100_000),
    "compile_queue": (1, 100_000),
    "job_history": (1, 1_000_000),
    "job_history_s": (1, 30 * 86_400),
    "generator_threads": (0, 1_024),
    "compiler_threads": (0, 1_024),
}


@dataclass(frozen=True)
class ServeConfig:
    """Where the server listens, and what it takes on at most.

    A client is whoever has a key; without a key file all are one client.
    """

    host: str = "127.0.0.1"  # elsewhere than loopback only with a key file
    port: int = 3000  # 0: one that is free
    workers: int = 1  # processes that speak HTTP
    api_key_file: str = ""  # NAME:KEY a line, readable by its owner alone; empty: no keys
    body_bytes: int = 4 * 2**20  # of a request
    prompt_tokens: int = 131_072  # of a prompt to compile
    query_tokens: int = 8_192  # of all turns of a chat, or of a text to embed or to search for
    answer_tokens: int = 4_096  # that a chat may ask for
    texts: int = 256  # of one request for embeddings
    rate: float = 20.0  # requests a second and client that need a model; 0: no limit
    burst: int = 40  # … at once
    read_rate: float = 0.0  # requests a second and client that the store answers; 0: no limit
    read_burst: int = 1_000  # … at once
    concurrency: int = 16  # requests that need a model, of one client side by side
    in_flight: int = 128  # requests of a worker that are not plain look-ups, side by side
    connections: int = 4_096  # of a worker; more wait to be accepted
    chat_s: float = 120.0  # a chat may take, waiting included
    compile_s: float = 600.0  # a compile may take
    header_s: float = 10.0  # a client may take to send a request's head
    body_s: float = 20.0  # … its body
    send_s: float = 30.0  # … to take in what it is sent next
    drain_s: float = 30.0  # for requests under way, once the server is told to stop
    hang_s: float = (
        120.0  # without an answer or a step, until a process with a model is started anew
    )
    follow_s: float = 1.0  # at most, until a worker sees what was stored, renamed or deleted
    slots: int = 8  # answers that are decoded side by side
    batch_tokens: int = 16_384  # of them together, prefixes included; one alone may have more
    chunk_tokens: int = 64  # read between two decoding steps of others; 4 × where there are none
    prefix_cache_mb: int = 512  # of artifacts that stay in place for whoever asks next
    chat_queue: int = 64  # chats that wait for a slot
    embed_queue: int = 32  # requests for embeddings, or by meaning, that wait
    compile_queue: int = 32  # compiles that wait
    job_history: int = 1_000  # jobs that are remembered once they are over
    job_history_s: float = 3_600.0  # … for so long
    generator_threads: int = 0  # of torch; 0: half of the cores
    compiler_threads: int = 0  # of torch; 0: half of the cores

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(
                    f"{name} = {value!r} is out of range; it must be from {low:,} to {high:,}."
                )
        if not self.host or len(self.host) > 255:
            raise ConfigError(f"host = {self.host!r} is no address to listen at.")
