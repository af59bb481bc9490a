"""Chat templates of many structures: what is trained is the answer, or the row is refused."""

import re
from datetime import datetime
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from suite.domains.language.chat import freeze_date
from suite.domains.language.encoding import completed_ids, plain_ids, prompt_ids
from suite.domains.language.io import BadRow
from suite.domains.language.messages import prompt_field
from tests.domains.language.templates import TEMPLATES, byte_tokenizer, space_tokenizer, turn

ASK, ANSWER = turn("user", "Is it raining?"), "Yes, a little."
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({"prompt": [ASK]}, turn("assistant", ANSWER)),
    "system": ({"prompt": [turn("system", "Be brief."), ASK]}, turn("assistant", ANSWER)),
    "turns": (
        {"prompt": [ASK, turn("assistant", "No."), turn("user", "2+2=?")]},
        turn("assistant", ANSWER),
    ),
    "tools": ({"prompt": [ASK], "tools": [CALL]}, turn("assistant", "", tool_calls=[CALL])),
    "thinking": ({"prompt": [ASK]}, turn("assistant", ANSWER, reasoning_content="Clouds.")),
}
REFUSAL = r"chat template (ignores|refuses|changes|writes)"


@pytest.fixture(scope="module", params=[byte_tokenizer, space_tokenizer])
def words(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    made: PreTrainedTokenizerFast = request.param()
    return made


def trained(words: PreTrainedTokenizerFast, template: str, kind: str) -> str | None:
    """Return the text of the trained tokens, None where the row is refused in a sentence."""
    words.chat_template = template
    row, answer = ROWS[kind]
    try:
        found = completed_ids(prompt_field(row), [answer], words, "a row")
    except BadRow as error:
        if not re.search(REFUSAL, str(error)):
            raise
        return None
    whole = words.apply_chat_template(
        [*row["prompt"], answer], tools=row.get("tools"), return_dict=False
    )
    ids = found.prompt + found.completion
    assert ids == list(whole)[: len(ids)], "the tokens are those that transformers gives"
    assert not words.decode(list(whole)[len(ids) :]).strip(), "and all of them"
    return str(words.decode(found.completion))


def without_frame(text: str) -> str:
    """Return text without an end token, and without an empty thought."""
    text = re.sub(r"(</s>|<\|end\|>)\s*$", "", text)
    text = re.sub(r"<think>\s*</think>", "", text)
    return re.sub(r"^( final)?<\|mid\|>", "", text).strip()


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_trained_tokens_are_the_answer(name: str, words: PreTrainedTokenizerFast) -> None:
    for kind in ("plain", "system", "turns"):
        text = trained(words, TEMPLATES[name], kind)
        if text is None:
            assert kind == "system", "only a system message may be refused"
            assert "no system role" in TEMPLATES[name]
        else:
            assert without_frame(text) == ANSWER
            assert len(re.findall(r"</s>|<\|end\|>", text)) == (name != "glm-4")
    called = trained(words, TEMPLATES[name], "tools")
    knows = "tools | tojson" in TEMPLATES[name]
    assert (called is not None) == knows, "what a template ignores is refused"
    assert called is None or '"weather"' in called
    thought = trained(words, TEMPLATES[name], "thinking")
    assert (thought is not None) == ("reasoning_content" in TEMPLATES[name])
    if thought is not None:
        body = f"<think>\nClouds.\n</think>\n\n{ANSWER}"
        spoken = thought.replace("</s>", "").replace("<|end|>", "")
        assert spoken.split() == body.split()


def test_there_are_many_templates() -> None:
    assert len(set(TEMPLATES.values())) >= 20


def test_a_reply_that_the_template_shortens_is_refused(words: PreTrainedTokenizerFast) -> None:
    words.chat_template = TEMPLATES["thought asked for"]
    answer = turn("assistant", "<think>Clouds.</think>Yes.")
    with pytest.raises(BadRow, match=r"changes the answer: '<think>Clouds\..* is written as 'Yes"):
        completed_ids([ASK], [answer], words, "a row")
    found = completed_ids([ASK], [turn("assistant", "<b>")], words, "a row")
    assert (words.decode(found.completion).strip(), found.differs) == ("<b><|end|>", True)


@pytest.mark.parametrize(
    ("prompt", "answer"), [("2+2=", "4"), ("is it?", "yes"), ("a ", "b"), ("", "b"), ("a", " b")]
)
def test_text_is_encoded_as_it_is_written(
    prompt: str, answer: str, words: PreTrainedTokenizerFast
) -> None:
    found = completed_ids(prompt, answer, words, "a row")
    written = [*words(prompt + answer)["input_ids"], words.eos_token_id]
    assert found.prompt + found.completion == written
    assert words.decode(found.completion[:-1]).strip().endswith(answer.strip())
    ended = completed_ids(prompt, f"{answer}</s>", words, "a row")
    assert ended == found, "one end token"


def test_a_formatted_prompt_has_one_beginning_and_no_end_inside() -> None:
    from tokenizers.processors import TemplateProcessing

    words = byte_tokenizer()
    ids = [(mark, words.convert_tokens_to_ids(mark)) for mark in ("<s>", "</s>")]
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=ids
    )
    start, end = words.bos_token_id, words.eos_token_id
    for prompt in ("2+2=", "<s>2+2="):
        found = completed_ids(prompt, "4", words, "a row")
        assert found.prompt == [start, *plain_ids("2+2=", words)] == prompt_ids(prompt, words, "")
        assert found.completion == [*plain_ids("4", words), end]


def test_a_template_writes_the_date_of_the_runs_start() -> None:
    words = byte_tokenizer()
    template = "{{ strftime_now('%d %b %Y') }}" + TEMPLATES["chatml"]
    words.chat_template = template
    freeze_date(words, datetime(2024, 2, 3))
    assert words.decode(prompt_ids([ASK], words, "a row")).startswith("03 Feb 2024<|start|>")
    assert words.chat_template == template, "the tokenizer is saved as it came"


def test_a_long_completion_is_cut_before_it_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    words = byte_tokenizer()
    text = "Is it raining? " * 100_000
    whole = completed_ids("2+2=", text[:4000], words, "a row", 10_000)
    cut = completed_ids("2+2=", text, words, "a row", 32)
    assert (cut.cut, whole.cut) == (True, False)
    assert 32 < len(cut.completion) < 5_000
    assert cut.completion[:32] == whole.completion[:32]
    with pytest.raises(BadRow, match=r"leave room for a completion, found 1,500,000 characters"):
        completed_ids(text, "4", words, "a row", 32)
