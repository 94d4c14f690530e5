import json
import sys
from pathlib import Path

import pytest

from benches.peers.llmlingua_peer import _corrected, readable
from benches.peers.run_llmlingua import STYLES, job, llmlingua, messages_of
from pcompiler.ir import Message

CHAT = [Message("system", "Be kind."), Message("user", "Am I?"), Message("assistant", "You are.")]


def test_without_its_environment_the_peer_is_skipped_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert llmlingua(tmp_path / "no" / "python", tmp_path, {}) is None
    assert "llmlingua skipped" in capsys.readouterr().err


def test_a_peer_that_fails_is_an_error_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(
        RuntimeError, match=r"(?s)llmlingua failed .*config\.json"
    ):  # no model there
        llmlingua(Path(sys.executable), tmp_path, {"requests": []})


def test_a_plain_prompt_is_one_request_a_style_and_rate() -> None:
    made = job([Message("system", "One.\n\nTwo.\n\n\nThree.\n")], [0.5, 0.2], threads=1)
    asked = [(request["style"], request["rate"]) for request in made["requests"]]
    assert asked == [(style, rate) for style in STYLES for rate in (0.5, 0.2)]
    assert all(
        "One." in (*r["context"], r.get("options", {}).get("question")) for r in made["requests"]
    )
    assert made["check"] == "One.\n\nTwo.\n\n\nThree.\n"


def test_what_has_no_question_is_not_ranked_by_one() -> None:
    for messages in (CHAT, CHAT[:1]):
        styles = {request["style"] for request in job(messages, [0.5], threads=1)["requests"]}
        assert styles == {"llmlingua"}


def test_a_chats_turns_come_back_with_their_roles() -> None:
    text = job(CHAT, [0.5], threads=1)["requests"][0]["structured"]
    for tag in ("<llmlingua, compress=False>", "<llmlingua>", "</llmlingua>"):
        text = text.replace(tag, "")
    assert messages_of(CHAT, text) == CHAT


def test_a_chat_whose_turns_are_lost_is_refused() -> None:
    with pytest.raises(ValueError, match="2 of the chat's 3"):
        messages_of(CHAT, "System: Be\n\nUser: Am I? You are.")


def test_a_missed_rate_is_corrected_by_what_it_met_and_then_between_two() -> None:
    assert _corrected(0.2, [(0.2, 0.4)]) == pytest.approx(0.1)
    assert _corrected(0.2, [(0.2, 0.3), (0.1, 0.1)]) == pytest.approx(0.15)
    assert _corrected(0.8, [(0.8, 0.4)]) == 1.0


def test_the_peer_reads_the_rotary_base_where_its_transformers_looks(tmp_path: Path) -> None:
    folder, scratch = tmp_path / "model", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    rope = {"rope_theta": 100000.0, "rope_type": "default"}
    (folder / "config.json").write_text(json.dumps({"rope_parameters": rope, "head_dim": 8}))
    settings = {"eos_token": "<|im_end|>", "tokenizer_class": "TokenizersBackend"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    made = readable(folder, scratch)
    config = json.loads((made / "config.json").read_text())
    assert config == {"rope_theta": 100000.0, "head_dim": 8}
    tokenizer = json.loads((made / "tokenizer_config.json").read_text())
    assert tokenizer["eos_token"] == "<|im_end|>"
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
