"""Prompts and completions as token ids: of the text as a user would write it.

A prompt and its completion are encoded together. The completion's tokens are all those that hold
one of its characters.
"""

from functools import lru_cache
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from suite.config.fields import ConfigError
from suite.domains.language.chat import (
    arguments_of,
    render,
    render_answer,
    render_prompt,
    shared_start,
)
from suite.domains.language.io import BadRow, Text


class Completed(NamedTuple):
    """The token ids of a prompt with its completion."""

    prompt: list[int]
    completion: list[int]  # with its end token
    differs: bool  # whether the chat template opens the answer otherwise than it asks for one
    cut: bool  # whether text was cut before it was encoded


def prompt_ids(prompt: Text, tokenizer: PreTrainedTokenizerBase, where: str) -> list[int]:
    """Return the tokens of a prompt; raises BadRow where its template refuses it."""
    if isinstance(prompt, str):
        return with_start(plain_ids(prompt, tokenizer), tokenizer)
    return plain_ids(render_prompt(prompt, tokenizer, where), tokenizer)


def conversation_ids(
    prompt: Text, answer: str, tokenizer: PreTrainedTokenizerBase, where: str
) -> list[int]:
    """Return the tokens of a prompt with an answer, as a model that judges both reads them."""
    if isinstance(prompt, str):
        completed = completed_ids(prompt, answer, tokenizer, where)
        return completed.prompt + completed.completion
    messages = [*prompt, {"role": "assistant", "content": answer}]
    return plain_ids(render(messages, tokenizer, where, arguments=arguments_of(prompt)), tokenizer)


def completed_ids(
    prompt: Text,
    completion: Text,
    tokenizer: PreTrainedTokenizerBase,
    where: str,
    room: int | None = None,
) -> Completed:
    """Return the tokens of a prompt and of its completion with one end token.

    Text far beyond `room` tokens is cut before it is encoded, so that it takes little memory.
    Raises BadRow where they do not go through the chat template whole, and ConfigError where the
    tokenizer has no end token.
    """
    limit = None if room is None else longest_text(tokenizer, room)
    size = len(prompt) if isinstance(prompt, str) else sum(len(str(m)) for m in prompt)
    if limit is not None and size > limit:
        raise BadRow(f"prompt must leave room for a completion, found {size:,} characters")
    if isinstance(prompt, str) and isinstance(completion, str):
        text, cut = shortened(completion, limit)
        before, after = split_ids(prompt, text, tokenizer)
        end = tokenizer.eos_token_id
        if end is None:
            raise ConfigError("domain.model: its tokenizer has no end token, by which answers end")
        after = after if cut else [*without_end(after, tokenizer), end]
        return Completed(with_start(before, tokenizer), after, differs=False, cut=cut)
    if isinstance(prompt, str):
        raise BadRow("a completion of messages needs a prompt of messages")
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    contents = [shortened(turn.get("content") or "", limit) for turn in completion]
    cut = any(was_cut for _, was_cut in contents)
    if cut:
        pairs = zip(completion, contents, strict=True)
        completion = [{**turn, "content": text} for turn, (text, _) in pairs]
    rendered = render_answer(prompt, completion, tokenizer, where)
    before, after = split_ids(rendered.prompt, rendered.answer, tokenizer)
    if not after:
        raise BadRow("the chat template writes nothing for the answer")
    return Completed(before, after, rendered.differs, cut)


def plain_ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens of text alone, without those that a tokenizer adds on its own."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def split_ids(
    prompt: str, answer: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[int]]:
    """Return the tokens before the answer, and those that hold one of its characters."""
    if not tokenizer.is_fast:
        before, whole = plain_ids(prompt, tokenizer), plain_ids(prompt + answer, tokenizer)
        shared = shared_start(before, whole)
        return whole[:shared], whole[shared:]
    encoded = tokenizer(prompt + answer, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    first = next((i for i, (_, end) in enumerate(offsets) if end > len(prompt)), len(ids))
    return ids[:first], ids[first:]


def with_start(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return ids after the tokens that open a text, unless they have them already."""
    start = start_ids(tokenizer)
    return ids if ids[: len(start)] == start else [*start, *ids]


@lru_cache(maxsize=8)
def start_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that a tokenizer puts before every text, such as a beginning."""
    plain, whole = plain_ids("a", tokenizer), list(tokenizer("a")["input_ids"])
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start]
    return []


def without_end(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return ids without their end tokens, and without white space after those."""
    end = tokenizer.eos_token_id
    if end not in ids:
        return ids
    last = len(ids) - 1 - ids[::-1].index(end)
    if last < len(ids) - 1 and str(tokenizer.decode(ids[last + 1 :])).strip():
        return ids
    while last > 0 and ids[last - 1] == end:
        last -= 1
    return ids[:last]


def shortened(text: str, limit: int | None) -> tuple[str, bool]:
    """Return the text cut to at most `limit` characters, and whether it was longer."""
    cut = limit is not None and len(text) > limit
    return (text[:limit], True) if cut else (text, False)


def longest_text(tokenizer: PreTrainedTokenizerBase, tokens: int) -> int:
    """Return how many characters hold more than this many tokens, whatever they are."""
    return (tokens + 64) * longest_token(tokenizer)


@lru_cache(maxsize=8)
def longest_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the length of the longest token of a vocabulary, in characters."""
    return max(map(len, tokenizer.get_vocab()))
