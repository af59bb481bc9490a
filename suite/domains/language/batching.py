"""From rows to token ids: chat templates, truncation, and batches without much padding.

Shapes: N sequences, L tokens of the longest.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from suite.config.fields import ConfigError
from suite.domains.language.chat import prompt_ids, template
from suite.domains.language.io import Text, refuse
from suite.domains.language.packing import Sequence, Tokens, collate
from suite.domains.language.schema import Group
from suite.system import distributed

WINDOW = 32  # batches whose groups are sorted by length together


class Encoded(NamedTuple):
    """A group as tokens."""

    sequences: list[Sequence]
    labels: list[float]  # above 0 accepted, below rejected, and how much they count
    weight: float


class RowsBatch(NamedTuple):
    """Sequences of groups, and their labels."""

    tokens: Tokens  # B·K sequences
    accept: Tensor  # [B, K]
    reject: Tensor  # [B, K]
    scale: Tensor  # [] how much this batch counts


def encode(
    groups: list[Group],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    skip_bad: bool,
    counts: Counter[str],
) -> list[Encoded]:
    """Return all groups as tokens, and count the completions that were cut and groups left out.

    Raises ConfigError where prompts leave no room for completions, unless they may be skipped.
    """
    encoded: list[Encoded] = []
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
    counts["left out"] += len(bad)
    return encoded


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


def flattened(groups: list[Encoded]) -> list[Encoded]:
    """Return groups of equal size as they are, others as single rows."""
    if len({len(group.sequences) for group in groups}) == 1:
        return groups
    return [
        Encoded([sequence], [label], group.weight)
        for group in groups
        for sequence, label in zip(group.sequences, group.labels, strict=True)
    ]


def order(groups: list[Encoded], size: int, tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of an epoch, as indices: shuffled, and alike in length within a batch.

    A batch has `size` groups, or fewer where it would hold more `tokens` than allowed, always a
    multiple of the ranks. Groups that fill no batch stay out for this epoch.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    shuffled = torch.randperm(len(groups), generator=generator).tolist()
    lengths = [max(len(sequence.ids) for sequence in group.sequences) for group in groups]
    found: list[list[int]] = []
    for start in range(0, len(groups), WINDOW * size):
        window = sorted(shuffled[start : start + WINDOW * size], key=lambda g: lengths[g])
        while window:
            count = fitting(
                window[:size], [lengths[g] * len(groups[g].sequences) for g in window], tokens
            )
            if len(window) < count or (not tokens and len(window) < size):
                break
            found.append(window[:count])
            window = window[count:]
    return [found[i] for i in torch.randperm(len(found), generator=generator).tolist()]


def fitting(chosen: list[int], lengths: list[int], tokens: int) -> int:
    """Return how many of the first groups fit into so many tokens, the longest being the last."""
    share = distributed.world_size()
    count = len(chosen) // share * share
    while tokens and count > share and count * lengths[count - 1] > tokens:
        count -= share
    return max(count, share)


def pack(groups: list[Encoded], pad: int, share: bool, scale: float) -> RowsBatch:
    """Lay groups side by side; every label counts `scale` times."""
    tokens = collate([group.sequences for group in groups], pad, share)
    labels = torch.tensor([group.labels for group in groups])
    weight = scale * torch.tensor([[group.weight] for group in groups], dtype=torch.float32)
    accept, reject = labels.clamp(min=0) * weight, (-labels).clamp(min=0) * weight
    return RowsBatch(tokens, accept, reject, torch.tensor(scale))


def batches(
    groups: list[Encoded], size: int, tokens: int, seed: int, state: dict[str, int]
) -> Iterator[tuple[list[Encoded], float]]:
    """Yield batches for ever, from where `state` says, which follows; and each one's weight.

    With the weight, its number of groups over the mean, a group counts equally in every batch.
    """
    while True:
        epoch = order(groups, size, tokens, seed, state["epoch"])
        mean = sum(map(len, epoch)) / len(epoch)
        while state["position"] < len(epoch):
            chosen = epoch[state["position"]]
            state["position"] += 1
            yield [groups[i] for i in chosen], len(chosen) / mean
        state["epoch"], state["position"] = state["epoch"] + 1, 0
