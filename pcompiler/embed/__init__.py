"""Texts as vectors: how near in meaning two of them are. Nothing here imports torch by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pcompiler.registry import load

if TYPE_CHECKING:
    from pcompiler.config import EmbedConfig
    from pcompiler.embed.base import Provider

PROVIDERS = {
    "static": "a table of tokens, tens of thousands of texts a second",
    "encoder": "a sentence encoder, the better of the two",
    "remote": "an OpenAI-compatible server",
}


def provider(settings: EmbedConfig, device: str = "auto") -> Provider:
    """The provider that the settings name, loaded.

    Raises:
        ConfigError: no such provider; lists those there are.
        ModelError: its model cannot be loaded or fetched.
    """
    make = load("embedding provider", settings.provider, PROVIDERS, __name__, "from_settings")
    return cast("Provider", make(settings, device))
