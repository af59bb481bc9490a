"""Prompts and completions as tokens: plain text, or messages through a chat template."""

from transformers import PreTrainedTokenizerBase

from suite.config.fields import ConfigError
from suite.domains.language.io import Text


def prompt_ids(prompt: Text, tokenizer: PreTrainedTokenizerBase, where: str) -> list[int]:
    """Return the tokens of a prompt."""
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    return template(prompt, tokenizer, where, prompts_answer=True)


def completion_ids(
    prompt: Text, completion: Text, tokenizer: PreTrainedTokenizerBase, where: str
) -> list[int]:
    """Return the tokens of a completion with its end token; raises ConfigError for a mix of forms.

    A completion of messages needs a prompt of messages.
    """
    if isinstance(completion, str) and isinstance(prompt, str):
        ids = list(tokenizer(completion, add_special_tokens=False)["input_ids"])
        end = tokenizer.eos_token_id
        if end is None:
            raise ConfigError("domain.model: its tokenizer has no end token, by which answers end")
        return ids if ids and ids[-1] == end else [*ids, end]
    if isinstance(prompt, str):
        raise ConfigError(f"{where}: a completion of messages needs a prompt of messages")
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    before = template(prompt, tokenizer, where, prompts_answer=True)
    whole = template([*prompt, *completion], tokenizer, where, prompts_answer=False)
    # Not the template of the completion alone: a template may open an answer in its own way.
    return whole[len(before) :]


def template(
    messages: list[dict[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    where: str,
    *,
    prompts_answer: bool,
) -> list[int]:
    """Return messages as tokens; raises ConfigError without a chat template."""
    if not tokenizer.chat_template:
        raise ConfigError(
            f"{where}: holds messages, but the tokenizer of domain.model has no chat template; use"
            " a model with one, or prompts and completions as text"
        )
    ids = tokenizer.apply_chat_template(
        messages, add_generation_prompt=prompts_answer, tokenize=True, return_dict=False
    )
    return list(ids)
