"""Arguments of ``compile`` that set a target, and of ``store search``; nothing heavy."""

from __future__ import annotations

import argparse

from pcompiler.config import DUPLICATES, FITTING, RANKINGS, Config, TargetConfig
from pcompiler.embed import PROVIDERS
from pcompiler.passes.protect import CLASSES


def targets(c: argparse.ArgumentParser) -> None:
    """Settings of the targets, group by group, and what shows their trade or loss."""
    c.add_argument("--plot", metavar="FILE.png", help="of a search: write the trade as a picture")
    g = settings(c, "With a gate and no rate, the lowest rate that meets the gate.")
    g.add_argument("--diff", action="store_true", help="show what was dropped")
    g.add_argument("--diff-html", metavar="FILE", help="the same as a page")


def settings(c: argparse.ArgumentParser, of_text: str = "") -> argparse._ArgumentGroup:
    """How small an artifact is to be, and in what form; returns the group of texts."""
    d = TargetConfig()
    text = c.add_argument_group("text", of_text)
    shortening(text)
    text.add_argument(
        "--ranking", choices=RANKINGS, help=f"what tells what matters (default {d.ranking})"
    )
    g = c.add_argument_group("kv, weights and hybrid")
    g.add_argument("--factor", type=float, metavar="F", help="prompt tokens over kept ones")
    g.add_argument("--rank", type=int, metavar="R", help=f"of the patch (default {d.rank})")
    g.add_argument(
        "--bits", type=int, metavar="B", help=f"8 or 16, of what is stored (default {d.bits})"
    )
    g.add_argument(
        "--budget", help=f"of keys: global, or as many for each head (default {d.budget})"
    )
    g.add_argument("--budget-bytes", type=int, metavar="N", help="of the patch; shares out ranks")
    g.add_argument("--strength", type=float, metavar="S", help="0..1 (default: validation chooses)")
    g.add_argument("--refine", type=int, metavar="STEPS", help="of gradient descent, afterwards")
    g.add_argument(
        "--fitting",
        type=int,
        metavar="N",
        help="probes of self-study to fit on: more of them, nearer answers and a longer compile "
        f"(default {FITTING}; for weights four times as many)",
    )
    return text


def shortening(g: argparse._ArgumentGroup) -> None:
    """How much text is to stay, and which."""
    g.add_argument("--rate", type=float, metavar="R", help="kept tokens over the prompt's, 0..1")
    g.add_argument("--target-tokens", type=int, metavar="N", help="the same as a number")
    g.add_argument(
        "--protect",
        metavar="CLASSES",
        help=f"spans that stay: all, none, or of {', '.join(CLASSES)}, with commas between "
        "(default auto: the first of these that fit)",
    )
    g.add_argument("--force", metavar="WORDS", help="words that stay, with commas between")
    g.add_argument(
        "--section",
        metavar="NAME=RATE",
        help="a rate for what stands under a heading, or for a role; NAME alone: verbatim; "
        "with commas between",
    )
    g.add_argument(
        "--duplicates",
        choices=DUPLICATES,
        help="repetitions that go, or go first (default: exact; with a rate also near ones)",
    )


def search(c: argparse.ArgumentParser) -> None:
    """What to look for among the stored prompts."""
    c.add_argument("text", help="what to look for: a few words, or a whole prompt")
    c.add_argument("--limit", type=int, default=10, help="prompts at most (default %(default)s)")
    default = Config().embed.provider
    c.add_argument("--provider", choices=list(PROVIDERS), help=f"of vectors (default {default})")
