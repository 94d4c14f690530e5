from benches.semantic_methods import head, ours, random_words, shortened, text_tokens
from pcompiler.config import Config
from pcompiler.frontend import parse
from pcompiler.ir import Message
from pcompiler.model import LanguageModel
from pcompiler.targets.base import Compilation

SOURCE = "Answer the traveller. " + "Trains leave at nine, and boats leave at ten. " * 8
CHAT = '[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Am I not?"}]'


def _compilation(model: LanguageModel, source: str) -> Compilation:
    return Compilation(parse(source), model, Config())


def test_both_baselines_meet_the_rate_to_within_a_word(model: LanguageModel) -> None:
    known = _compilation(model, SOURCE)
    whole = text_tokens(model, known.prompt.messages)
    for method in (head, random_words):
        for rate in (0.8, 0.33):
            short = method(known, rate)
            assert rate * whole - len(" traveller.") <= short.kept_tokens <= rate * whole


def test_the_head_is_a_beginning_of_the_prompt(model: LanguageModel) -> None:
    context = model.tokenizer.decode(head(_compilation(model, SOURCE), 0.2).context)
    text = context.split("\n", 1)[1].removesuffix("<|im_end|>\n")
    assert SOURCE.startswith(text)
    assert SOURCE[len(text)] == " "


def test_random_words_are_the_same_on_every_call(model: LanguageModel) -> None:
    known = _compilation(model, SOURCE)
    assert random_words(known, 0.5).context == random_words(known, 0.5).context
    assert random_words(known, 0.5).context != head(known, 0.5).context


def test_turns_without_text_are_left_out(model: LanguageModel) -> None:
    short = head(_compilation(model, CHAT), 0.5)
    assert model.tokenizer.decode(short.context) == "<|im_start|>system\nBe kind.<|im_end|>\n"


def test_all_of_a_prompt_is_the_full_prompt(model: LanguageModel) -> None:
    known = _compilation(model, CHAT)
    whole = shortened(model, known.prompt.messages, 0.0, 0.0)
    assert whole.context == known.context
    assert whole.kept_tokens == sum(len(m.content) for m in known.prompt.messages)
    assert shortened(model, [Message("system", "Be")], 1.0, 2.0).cpu_s == 2.0


def test_the_text_target_is_measured_with_the_tokens_it_keeps(model: LanguageModel) -> None:
    known = _compilation(model, SOURCE)
    short = ours(known, 0.5)
    assert short.kept_tokens == round(0.5 * text_tokens(model, known.prompt.messages))
    assert 0 < short.kept_tokens < len(short.context)
    assert "teacher" not in vars(known), "what it computes is its own cost"
