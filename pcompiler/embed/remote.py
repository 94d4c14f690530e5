"""Vectors from a server that speaks OpenAI's ``POST /v1/embeddings``. No torch.

The key comes from the environment and goes into one header; no error, repr or file has it. Busy
servers (429, 503) are asked again, as late as they say; a redirect is not followed, because it
would take the key along.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from pcompiler.embed.base import Vectors, check_texts, check_vectors, reported, unit
from pcompiler.embed.patience import RETRIED, wait_s
from pcompiler.errors import ConfigError, InputError, RemoteError

if TYPE_CHECKING:
    from pcompiler.config import EmbedConfig

KEYS = ("PCOMPILER_EMBED_API_KEY", "OPENAI_API_KEY")
MAX_TEXT_BYTES = 2 * 2**20  # of one text: more than any server's window
MAX_REQUEST_BYTES = 4 * 2**20  # of the texts of one request
MAX_ANSWER_BYTES = 256 * 2**20
SHOWN = 200  # characters of what a server says that an error repeats


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow nothing: a 3xx becomes an HTTPError."""


def from_settings(settings: EmbedConfig, device: str = "auto") -> Remote:  # noqa: ARG001
    """The server that the settings name, with the key of the environment.

    Raises:
        ConfigError: no address or model, or one that cannot be.
    """
    key = next((os.environ[name] for name in KEYS if os.environ.get(name)), "")
    s = settings
    return Remote(s.base_url, s.model, key, s.batch, s.timeout_s, s.retries)


@dataclass(frozen=True)
class Remote:
    """A server and how it is asked.

    Attributes:
        base_url: up to and with ``/v1``.
        model: the server's name for the model.
        key: sent as a bearer token; empty: none is sent.
        batch: texts a request, at most.
        timeout_s: of one request, its answer read to the end.
        retries: further tries after 429 and 503.
    """

    base_url: str
    model: str
    key: str = field(default="", repr=False)
    batch: int = 32
    timeout_s: float = 30.0
    retries: int = 3

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ConfigError(
                "embed.base_url has to be http(s)://host/v1, without a name or password in it; "
                "set it in [embed] of the configuration."
            )
        if not self.model:
            raise ConfigError("embed.model is empty; name the server's model in [embed].")
        if not all("!" <= c <= "~" for c in self.key):
            raise ConfigError(f"the key in ${' or $'.join(KEYS)} has blanks or odd characters.")

    @property
    def fingerprint(self) -> str:
        """Hash of address and model; what the server runs behind them cannot be seen."""
        name = f"remote {self.base_url.rstrip('/')} {self.model}"
        return hashlib.sha256(name.encode()).hexdigest()[:16]

    @cached_property
    def width(self) -> int:
        """Dimensions of a vector: those of one that the server is asked for."""
        return int(self._asked(["width"], None).shape[1])

    @reported("remote")
    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, width), one unit vector a text; a text longer than the server's window is its affair.

        Raises:
            InputError: not a list of texts, or one of more than 2 MB.
            RemoteError: no answer, a refusal, or an answer that is not vectors of these texts.
            VectorError: vectors with a NaN, or of another dimension than before.
        """
        check_texts(texts)
        width = self.width
        rows = [self._asked(some, width) for some in self._batches(texts)]
        return unit(np.concatenate([np.zeros((0, width), np.float32), *rows]))

    def _batches(self, texts: Sequence[str]) -> Iterator[list[str]]:
        some: list[str] = []
        size = 0
        for i, text in enumerate(texts):
            length = len(text.encode("utf-8", "replace"))
            if length > MAX_TEXT_BYTES:
                raise InputError(
                    f"text {i} has {length:,} bytes; a server is asked for {MAX_TEXT_BYTES:,} at "
                    "most. Split it, or use the provider static or encoder."
                )
            if some and (len(some) == self.batch or size + length > MAX_REQUEST_BYTES):
                yield some
                some, size = [], 0
            some.append(text)
            size += length
        if some:
            yield some

    def _asked(self, texts: list[str], width: int | None) -> Vectors:
        """(n, width) of one request, repeated while the server is busy."""
        # Half a surrogate pair is a legal str that no UTF-8 has; blank is refused by some servers.
        clean = [text.encode("utf-8", "replace").decode() or " " for text in texts]
        body = {"model": self.model, "input": clean, "encoding_format": "float"}
        data = json.dumps(body).encode()
        for attempt in range(self.retries + 1):
            try:
                return self._vectors(self._post(data), len(texts), width)
            except urllib.error.HTTPError as e:
                with e:
                    said = e.read(4 * SHOWN).decode("utf-8", "replace")
                seconds = wait_s(e.headers.get("Retry-After"), attempt)
                if e.code not in RETRIED or attempt == self.retries or seconds is None:
                    raise self._error(f"answers {e.code} {e.reason}: {said}") from None
            except (OSError, http.client.HTTPException) as e:
                why = getattr(e, "reason", None) or e or type(e).__name__
                raise self._error(f"cannot be asked: {why}. Check embed.base_url") from None
            time.sleep(seconds)
        raise AssertionError("the last try returns or raises")

    def _post(self, data: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        url = f"{self.base_url.rstrip('/')}/embeddings"
        request = urllib.request.Request(url, data, headers)  # noqa: S310 - checked above
        end = time.monotonic() + self.timeout_s
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(request, timeout=self.timeout_s) as answer:
            parts, size = [], 0
            while part := answer.read1(2**16):
                parts.append(part)
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    raise self._error(f"sends more than {MAX_ANSWER_BYTES:,} bytes")
                if time.monotonic() > end:  # the socket's own timeout begins anew with each part
                    raise TimeoutError(f"no whole answer in {self.timeout_s:g} s")
        return b"".join(parts)

    def _vectors(self, answer: bytes, count: int, width: int | None) -> Vectors:
        try:
            data: list[Any] = json.loads(answer)["data"]
            rows = [item["embedding"] for item in sorted(data, key=lambda item: item["index"])]
            places = sorted(item["index"] for item in data)
        except (ValueError, KeyError, TypeError):
            raise self._error("answers with something else than embeddings") from None
        if places != list(range(count)):
            raise self._error(f"answers with {len(places)} embeddings for {count} texts")
        return check_vectors(rows, width, f"the vectors of {self.base_url}")

    def _error(self, what: str) -> RemoteError:
        """An error that names the server; the key is struck out of what the server said."""
        said = what.replace(self.key, "…") if self.key else what
        said = " ".join(said.split())[:SHOWN]
        return RemoteError(f"the embedding server {self.base_url} {said}.")
