"""From rows to token ids: chat templates, truncation, and batches without much padding.

Shapes: N sequences, L tokens of the longest.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from suite.domains.rows.schema import Group, Text, refuse
from suite.keys import ConfigError

WINDOW = 32  # batches whose groups are sorted by length together


class Sequence(NamedTuple):
    """A prompt with one completion."""

    ids: list[int]
    prompt: int  # how many of them are the prompt's


class Encoded(NamedTuple):
    """A group as tokens."""

    sequences: list[Sequence]
    labels: list[float]
    weight: float


class Tokens(NamedTuple):
    """Sequences side by side, padded on the right."""

    input_ids: Tensor  # [N, L]
    attention_mask: Tensor  # [N, L]
    completion_mask: Tensor  # [N, L], True where a token is the completion's


class RowsBatch(NamedTuple):
    """Sequences of groups, and their labels."""

    tokens: Tokens  # B·K sequences
    accept: Tensor  # [B, K]
    reject: Tensor  # [B, K]


def encode(
    groups: list[Group], tokenizer: PreTrainedTokenizerBase, max_length: int, skip_bad: bool
) -> tuple[list[Encoded], Counter[str]]:
    """Return all groups as tokens, and how many completions were cut and groups left out.

    Raises ConfigError where prompts leave no room for completions, unless they may be skipped.
    """
    encoded: list[Encoded] = []
    counts: Counter[str] = Counter()
    bad: list[str] = []
    for group in groups:
        prompt = prompt_ids(group.prompt, tokenizer, group.where)
        room = max_length - len(prompt)
        if room < 1:
            bad.append(
                f"{group.where}: prompt must leave room for a completion within"
                f" domain.max_length={max_length}, found {len(prompt)} tokens"
            )
            continue
        whole = [completion_ids(group.prompt, c, tokenizer, group.where) for c in group.completions]
        counts["truncated"] += sum(len(ids) > room for ids in whole)
        sequences = [Sequence(prompt + ids[:room], len(prompt)) for ids in whole]
        encoded.append(Encoded(sequences, group.labels, group.weight))
    refuse(bad, len(groups), skip_bad)
    counts["left out"] = len(bad)
    return encoded, counts


def prompt_ids(prompt: Text, tokenizer: PreTrainedTokenizerBase, where: str) -> list[int]:
    """Return the tokens of a prompt: text as it is, messages through the chat template."""
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    return template(prompt, tokenizer, where, prompts_answer=True)


def completion_ids(
    prompt: Text, completion: Text, tokenizer: PreTrainedTokenizerBase, where: str
) -> list[int]:
    """Return the tokens of a completion, its end included; messages need a prompt of messages."""
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
    # What follows the prompt, also where the template opens an answer in its own way.
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
    found = tokenizer.apply_chat_template(
        messages, add_generation_prompt=prompts_answer, tokenize=True, return_dict=False
    )
    return list(found)


def flattened(groups: list[Encoded]) -> list[Encoded]:
    """Return groups of equal size as they are, others as single rows."""
    if len({len(group.sequences) for group in groups}) == 1:
        return groups
    return [
        Encoded([sequence], [label], group.weight)
        for group in groups
        for sequence, label in zip(group.sequences, group.labels, strict=True)
    ]


def order(groups: list[Encoded], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of an epoch, as indices: shuffled, and alike in length within a batch.

    Groups that do not fill a batch stay out for this epoch.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    shuffled = torch.randperm(len(groups), generator=generator).tolist()
    size = WINDOW * batch_size
    lengths = [max(len(sequence.ids) for sequence in group.sequences) for group in groups]
    batches = [
        ordered[i : i + batch_size]
        for start in range(0, len(groups), size)
        for ordered in [sorted(shuffled[start : start + size], key=lambda g: lengths[g])]
        for i in range(0, len(ordered), batch_size)
    ]
    full = [batch for batch in batches if len(batch) == batch_size]
    return [full[i] for i in torch.randperm(len(full), generator=generator).tolist()]


def collate(groups: list[Encoded], pad: int) -> RowsBatch:
    """Lay groups side by side."""
    sequences = [sequence for group in groups for sequence in group.sequences]
    longest = max(len(sequence.ids) for sequence in sequences)
    shape = (len(sequences), longest)
    ids = torch.full(shape, pad)
    attention, completion = torch.zeros(shape, dtype=torch.long), torch.zeros(shape).bool()
    for row, sequence in enumerate(sequences):
        length = len(sequence.ids)
        ids[row, :length] = torch.tensor(sequence.ids)
        attention[row, :length] = 1
        completion[row, sequence.prompt : length] = True
    labels = torch.tensor([group.labels for group in groups])
    weight = torch.tensor([[group.weight] for group in groups], dtype=torch.float32)
    accept, reject = (labels > 0) * weight, (labels < 0) * weight
    return RowsBatch(Tokens(ids, attention, completion), accept, reject)


def batches(
    groups: list[Encoded], batch_size: int, seed: int, pad: int, state: dict[str, int]
) -> Iterator[list[Encoded]]:
    """Yield batches for ever, from where `state` says, which follows."""
    while True:
        epoch = order(groups, batch_size, seed, state["epoch"])
        while state["position"] < len(epoch):
            chosen = epoch[state["position"]]
            state["position"] += 1
            yield [groups[i] for i in chosen]
        state["epoch"], state["position"] = state["epoch"] + 1, 0
