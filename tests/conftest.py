"""A tiny random Llama and a byte tokenizer, built in memory: no network, no download, no GPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import objects
import pytest
import serving
import torch
from machines import Machines
from serving import Server
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from pcompiler.compiler import Compiler
from pcompiler.config import Config, ProbeConfig, StoreConfig
from pcompiler.device import pick
from pcompiler.embed.static import Static
from pcompiler.model import LanguageModel
from pcompiler.store.db import Store

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "initializer_range": 0.4,  # large enough that the prompt changes the answers
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "attention_dropout": 0.0,
}
# What makes each family different from Llama, at a size where it shows.
FAMILY_EXTRAS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 16},
    "qwen2": {
        "use_sliding_window": True,
        "sliding_window": 16,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    },
    "qwen3": {},
    "gemma": {},
    "gemma2": {
        "sliding_window": 16,
        "query_pre_attn_scalar": 8,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "gemma3_text": {
        "sliding_window": 16,
        "query_pre_attn_scalar": 8,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
}


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, ChatML markers as special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: i + 2 for i, c in enumerate(alphabet)}
    vocabulary |= {"<|im_start|>": 0, "<|im_end|>": 1}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=CHATML,
    )


def tiny(family: str = "llama", seed: int = 0, **changes: Any) -> LanguageModel:
    """A random model of a family, in memory."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **(SMALL | FAMILY_EXTRAS[family] | changes))
    return LanguageModel.from_objects(
        AutoModelForCausalLM.from_config(config), byte_tokenizer(), pick("cpu"), f"tiny-{family}"
    )


def endless() -> LanguageModel:
    """A random Llama that never says its stop token: answers are as long as they may be."""
    made = tiny()
    made.hf.lm_head.weight[list(made.stop_ids)] = 0.0
    return LanguageModel.from_objects(made.hf, made.tokenizer, made.device, made.name)


@pytest.fixture(scope="session")
def model() -> LanguageModel:
    """A tiny random Llama."""
    return tiny()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, model: LanguageModel) -> Path:
    """The same model as a folder, for commands."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def endless_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``endless``."""
    folder, made = tmp_path_factory.mktemp("endless"), endless()
    made.hf.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Few and short probes, a store of its own, the same precision on every processor."""
    return Config(
        probes=ProbeConfig(3, 18, query_tokens=8, answer_tokens=6, precision="model"),
        store=StoreConfig(path=str(tmp_path / "store")),
    )


@pytest.fixture
def store(config: Config) -> Iterator[Store]:
    """An open, empty store."""
    with Store(config.store.folder) as opened:
        yield opened


@pytest.fixture
def compiler(model: LanguageModel, config: Config) -> Iterator[Compiler]:
    """A compiler for the tiny model."""
    with Compiler(model=model, config=config) as made:
        yield made


@pytest.fixture
def metered() -> Iterator[Any]:
    """A reading of what is reported meanwhile; see ``reading.Reading``."""
    from reading import Reading

    from pcompiler import meter
    from pcompiler.serve.metrics import Exporter

    exporter = Exporter()
    meter.attach(exporter)
    yield Reading(exporter)
    meter.attach(None)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MB; only where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a tmpfs here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def cli(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process; returns exit code, standard output, standard error."""
    from pcompiler.cli import main

    settings = tmp_path / "tiny.toml"
    settings.write_text(
        f'[model]\nname = "{model_folder}"\ndevice = "cpu"\n'
        "[probes]\nself_study = 2\nfitting = 16\nquery_tokens = 6\nanswer_tokens = 4\n"
        f'[store]\npath = "{tmp_path / "store"}"\n'
    )
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        words = [str(a) for a in arguments]
        where = 1 if words[0] not in ("store", "corpus") else 3 if words[1] == "dictionary" else 2
        try:
            code = main([*words[:where], "--config", str(settings), *words[where:]])
        except SystemExit as e:  # argparse's way out
            code = int(e.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def run_readme(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Path], dict[str, Any]]:
    """Execute the code block of a folder's README.md there; returns its names."""

    def run(folder: Path) -> dict[str, Any]:
        text = (folder / "README.md").read_text()
        (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
        monkeypatch.chdir(folder)
        names: dict[str, Any] = {}
        with torch.no_grad():
            exec(compile(code, "README.md", "exec"), names)
        names["printed"] = capsys.readouterr().out
        return names

    return run


@pytest.fixture(scope="session")
def served(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the tiny model that all tests share: what they store, others see."""
    store = tmp_path_factory.mktemp("served") / "store"
    server = serving.start(model_folder, store, rate=0.0, concurrency=1_000)
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def desk(served: Server) -> dict[str, Any]:
    """An artifact that the shared server has, named desk: its header."""
    body = {"source": "You are the desk of a bicycle shop. We open at nine.", "name": "desk"}
    with served.client() as client:
        done = client.post("/v1/compile", json=body)
        assert done.status_code == 200, done.text
        header: dict[str, Any] = client.get(f"/v1/artifacts/{done.json()['artifact']}").json()
        return header


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """Machines that share a folder."""
    (tmp_path / "remote").mkdir()
    with Machines(tmp_path, (tmp_path / "remote").as_uri()) as made:
        yield made


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server that speaks S3 and has a bucket: bucket."""
    pytest.importorskip("moto")
    with objects.server() as address:
        objects.make_bucket(address, "bucket")
        yield address


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[objects.Proxy]:
    """A proxy before that server, where the environment leads."""
    with objects.proxy(s3_server) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def s3_machines(s3: objects.Proxy, tmp_path: Path) -> Iterator[Machines]:  # noqa: ARG001
    """Machines that share a bucket of that server."""
    with Machines(tmp_path, f"s3://bucket/{tmp_path.parent.name}/{tmp_path.name}") as made:
        yield made


@pytest.fixture(scope="session")
def smollm2() -> LanguageModel:
    """The real embedded model, for tests marked ``model``."""
    torch.set_num_threads(os.cpu_count() or 1)
    return LanguageModel.load("smollm2", "cpu")


@pytest.fixture(scope="session")
def table() -> Static:
    """A random static table over BERT-like word pieces."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,:!?-"
    vocabulary = ["[UNK]", *letters, *(f"##{letter}" for letter in letters)]
    words = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer()
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rows = np.random.default_rng(0).normal(size=(len(vocabulary), 16)).astype(np.float32)
    return Static.from_objects(rows, words)
