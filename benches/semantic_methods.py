"""Methods that shorten a prompt to a share of its tokens, each in a form that can be measured."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pcompiler import targets
from pcompiler.ir import Message, Probe
from pcompiler.model import LanguageModel
from pcompiler.targets.base import Compilation
from pcompiler.template import Template


@dataclass(frozen=True)
class Shortened:
    """What stands in for a prompt.

    Attributes:
        context: token ids of the shorter prompt, in the chat template.
        kept_tokens: of its text, without the template's own.
        seconds: wall seconds of shortening, once the model is loaded.
        cpu_s: CPU seconds of the same.
    """

    context: list[int]
    kept_tokens: int
    seconds: float
    cpu_s: float


Method = Callable[[Compilation, float], Shortened]


def text_tokens(model: LanguageModel, messages: Sequence[Message]) -> int:
    """Tokens of a prompt's text, without a chat template."""
    return sum(len(_encode(model, message.content)) for message in messages)


def shortened(
    model: LanguageModel, messages: Sequence[Message], seconds: float, cpu_s: float
) -> Shortened:
    """Put shortened messages into the chat template; those without text left are left out."""
    kept = [message for message in messages if message.content.strip()]
    context = Template.of(model.tokenizer, kept).context_ids()
    return Shortened(context, text_tokens(model, kept), seconds, cpu_s)


def head(known: Compilation, rate: float) -> Shortened:
    """The first words, up to the rate."""
    return _in_order(known, rate, range)


def random_words(known: Compilation, rate: float) -> Shortened:
    """Words drawn at random, in the prompt's order, up to the rate."""
    draw = random.Random("random words")
    return _in_order(known, rate, lambda count: draw.sample(range(count), count))


def ours(known: Compilation, rate: float) -> Shortened:
    """The text target, from nothing but the prompt and the model."""
    return _text_target(known, rate, ())


def ours_lexical(known: Compilation, rate: float) -> Shortened:
    """The text target without a model: words alone rank."""
    return _text_target(known, rate, (), ranking="lexical")


def ours_asked(known: Compilation, rate: float) -> Shortened:
    """The text target, told what users ask: the fit queries, which are never measured on."""
    return _text_target(known, rate, known.fit_queries)


METHODS: dict[str, Method] = {
    "ours": ours,
    "ours with queries": ours_asked,
    "ours without a model": ours_lexical,
    "head": head,
    "random words": random_words,
}


def _text_target(
    known: Compilation, rate: float, fit_queries: Sequence[Probe], ranking: str = "probes"
) -> Shortened:
    # Its own rate counts the chat template, which others here know nothing of.
    whole = text_tokens(known.model, known.prompt.messages)
    frame = len(known.context) - whole
    asked = replace(
        known.config.targets, target_tokens=round(rate * whole) + frame, ranking=ranking
    )
    config = replace(known.config, targets=asked)
    # Not ``known`` with other settings: what it has computed already would cost nothing here.
    fresh = Compilation(known.prompt, known.model, config, (), fit_queries)
    wall, cpu = time.perf_counter(), time.process_time()
    built = targets.get("text").build(fresh)
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    text = built.tensors["text"].numpy().tobytes().decode()
    context = _encode(known.model, text)
    # Its text comes in the template; what that adds is the same as for the full prompt.
    return Shortened(context, len(context) - frame, *seconds)


def _in_order(
    known: Compilation, rate: float, order_of: Callable[[int], Sequence[int]]
) -> Shortened:
    """As many words as the rate allows, taken in an order, put down in the prompt's."""
    wall, cpu = time.perf_counter(), time.process_time()
    model, messages = known.model, known.prompt.messages
    words = [(i, w) for i, m in enumerate(messages) for w in re.findall(r"\s*\S+", m.content)]
    order = order_of(len(words))

    def first(count: int) -> list[Message]:
        parts: list[list[str]] = [[] for _ in messages]
        for index in sorted(order[:count]):
            message, word = words[index]
            parts[message].append(word)
        return [Message(m.role, "".join(p)) for m, p in zip(messages, parts, strict=True)]

    budget, low, high = rate * text_tokens(model, messages), 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        fits = text_tokens(model, first(middle)) <= budget
        low, high = (middle, high) if fits else (low, middle - 1)
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    return shortened(model, first(max(1, low)), *seconds)


def _encode(model: LanguageModel, text: str) -> list[int]:
    ids: list[int] = model.tokenizer.encode(text, add_special_tokens=False)
    return ids
