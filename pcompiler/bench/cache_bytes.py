"""Bytes of a real KV cache: as it is, in byte planes, and rounded to 8 bit, each through zstd.

What bounds it: of a 16-bit number the low byte is noise (8.0 bits of entropy), only the high one,
with sign and exponent, has structure. Loading has to stay a matter of milliseconds: it is part of
every time to first token.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pcompiler.bench import ROOT
from pcompiler.bench.harness import Figure, Samples, Setting
from pcompiler.codec import tensors, zstd
from pcompiler.frontend import parse, read_source
from pcompiler.model import LanguageModel
from pcompiler.runtime.prefix import prefill
from pcompiler.targets.encoding import to_tensors
from pcompiler.template import Template

_figure = partial(Figure, "compression_performance")


def figures(model: LanguageModel, setting: Setting) -> list[Figure]:
    """Saved and seconds of loading, of the support desk's cache in 16 and in 8 bit."""
    prompt = parse(read_source(ROOT / "examples" / "support_desk.md"))
    ids = Template.of(model.tokenizer, prompt.messages).context_ids()
    prefix = prefill(model, ids)
    made = []
    for bits in (16, 8):
        cache = to_tensors(prefix, bits)
        raw = tensors.to_bytes(cache)
        plain, planes = (
            _Form(raw, tensors.from_bytes),
            _Form(tensors.to_planes(cache), tensors.from_planes),
        )
        for _ in range(setting.rounds):
            plain.load(setting)
            planes.load(setting)
        name = f"KV cache in {bits} bit, byte planes"
        made += [
            _figure(
                f"{name}: saved", 100 * (1 - len(planes.frame) / len(raw)), "%", "higher",
                baseline=100 * (1 - len(plain.frame) / len(raw)),
            ),
            _figure(
                f"{name}: loading {len(raw) / 1e6:.0f} MB", planes.took.median, "s", "lower",
                baseline=plain.took.median, spread=planes.took.spread,
                cpu_s=planes.took.cpu_median, samples=tuple(planes.took.wall),
            ),
        ]  # fmt: skip
    return made


class _Form:
    """One way to store tensors; checked to give back the same bytes."""

    def __init__(self, data: bytes, read: Callable[[bytes], object]) -> None:
        self._size, self._read = len(data), read
        self.frame = zstd.compress(data)
        assert zstd.decompress(self.frame, self._size) == data, "a round trip"
        self.took = Samples()

    def load(self, setting: Setting) -> None:
        self.took.time(setting.device, lambda: self._read(zstd.decompress(self.frame, self._size)))
