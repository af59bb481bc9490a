"""Prompts as tokens: text as it is, messages through the tokenizer's chat template."""

from transformers import PreTrainedTokenizerBase

from suite.config.fields import ConfigError
from suite.domains.language.io import Text


def prompt_ids(prompt: Text, tokenizer: PreTrainedTokenizerBase, where: str) -> list[int]:
    """Return the tokens of a prompt: text as it is, messages through the chat template."""
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    return template(prompt, tokenizer, where, prompts_answer=True)


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
    found = tokenizer.apply_chat_template(
        messages, add_generation_prompt=prompts_answer, tokenize=True, return_dict=False
    )
    return list(found)
