"""Rows as token ids, in batches without much padding.

Shapes: N sequences, L tokens of the longest.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from suite.domains.language.chat import completion_ids, prompt_ids
from suite.domains.language.io import raise_for_bad_rows
from suite.domains.language.packing import Sequence, Tokens, pack
from suite.domains.language.schema import Group
from suite.system import distributed

WINDOW = 32  # batches whose groups are sorted by length together


class Encoded(NamedTuple):
    """A group as token ids."""

    sequences: list[Sequence]
    labels: list[float]  # above 0 accepted, below 0 rejected; the size is the label's weight
    weight: float


class RowsBatch(NamedTuple):
    """The sequences of a batch of groups, and their labels."""

    tokens: Tokens  # B·K sequences
    accept: Tensor  # [B, K]
    reject: Tensor  # [B, K]
    scale: Tensor  # [] the weight of this batch


def encode(
    groups: list[Group],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    skip_bad: bool,
    counts: Counter[str],
) -> list[Encoded]:
    """Return all groups as token ids; count truncated completions and skipped groups in `counts`.

    Raises ConfigError where prompts leave no room for completions, unless `skip_bad` is set.
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
    raise_for_bad_rows(bad, len(groups), skip_bad)
    counts["left out"] += len(bad)
    return encoded


def equal_groups(groups: list[Encoded]) -> list[Encoded]:
    """Return the groups if all have equally many completions, else each completion as a group."""
    if len({len(group.sequences) for group in groups}) == 1:
        return groups
    return [
        Encoded([sequence], [label], group.weight)
        for group in groups
        for sequence, label in zip(group.sequences, group.labels, strict=True)
    ]


def epoch_batches(
    groups: list[Encoded], size: int, tokens: int, seed: int, epoch: int
) -> list[list[int]]:
    """Return the batches of an epoch as indices, shuffled, with similar lengths in each batch.

    A batch has `size` groups, or fewer where it would hold more than `tokens` tokens (0: no limit),
    always a multiple of the number of ranks. Groups that fill no batch are left out of the epoch.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    shuffled = torch.randperm(len(groups), generator=generator).tolist()
    lengths = [max(len(sequence.ids) for sequence in group.sequences) for group in groups]
    batches: list[list[int]] = []
    for start in range(0, len(groups), WINDOW * size):
        window = sorted(shuffled[start : start + WINDOW * size], key=lambda g: lengths[g])
        while window:
            count = count_within_budget(
                window[:size], [lengths[g] * len(groups[g].sequences) for g in window], tokens
            )
            if len(window) < count or (not tokens and len(window) < size):
                break
            batches.append(window[:count])
            window = window[count:]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def count_within_budget(chosen: list[int], lengths: list[int], tokens: int) -> int:
    """Return how many of the first groups fit into `tokens` tokens; lengths are in rising order."""
    ranks = distributed.world_size()
    count = len(chosen) // ranks * ranks
    while tokens and count > ranks and count * lengths[count - 1] > tokens:
        count -= ranks
    return max(count, ranks)


def rows_batch(groups: list[Encoded], pad: int, shared_prompts: bool, scale: float) -> RowsBatch:
    """Return groups as a batch of weight `scale`, whose completions may share their prompts."""
    tokens = pack([group.sequences for group in groups], pad, shared_prompts)
    labels = torch.tensor([group.labels for group in groups])
    weight = scale * torch.tensor([[group.weight] for group in groups], dtype=torch.float32)
    accept, reject = labels.clamp(min=0) * weight, (-labels).clamp(min=0) * weight
    return RowsBatch(tokens, accept, reject, torch.tensor(scale))


def batches(
    groups: list[Encoded], size: int, tokens: int, seed: int, state: dict[str, int]
) -> Iterator[tuple[list[Encoded], float]]:
    """Yield batches for ever, each with its weight, from the epoch and position in `state`.

    `state` is updated. The weight is the batch's number of groups over the mean of the epoch, so
    that each group counts equally.
    """
    while True:
        epoch = epoch_batches(groups, size, tokens, seed, state["epoch"])
        mean = sum(map(len, epoch)) / len(epoch)
        while state["position"] < len(epoch):
            chosen = epoch[state["position"]]
            state["position"] += 1
            yield [groups[i] for i in chosen], len(chosen) / mean
        state["epoch"], state["position"] = state["epoch"] + 1, 0
