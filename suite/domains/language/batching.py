"""Rows as token ids, in batches without much padding.

Shapes: N sequences, L tokens of the longest.
"""

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from suite.domains.language.encoding import Completed, completed_ids
from suite.domains.language.io import BadRow, Text, raise_for_bad_rows, with_progress
from suite.domains.language.packing import Sequence, Tokens, pack
from suite.domains.language.schema import Group
from suite.system import distributed

WINDOW = 32  # batches whose groups are sorted by length together


class Encoded(NamedTuple):
    """A group as token ids."""

    sequences: list[Sequence]
    labels: list[float]  # above 0 accepted, below 0 rejected; the size is the label's weight
    weight: float
    prompt: bytes = b""  # a digest of the prompt as given: rows of one prompt stand together
    scores: list[float] | None = None  # by which completions are ranked, in place of the labels


class RowsBatch(NamedTuple):
    """The sequences of a batch of groups, and their labels."""

    tokens: Tokens  # B·K sequences
    accept: Tensor  # [B, K]
    reject: Tensor  # [B, K]
    weight: Tensor  # [B] of each group, times the weight of the batch
    score: Tensor  # [B, K], NaN where a group has fewer than K completions


def encode(
    groups: list[Group],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    skip_bad: bool,
    counts: Counter[str],
    positions: int | None = None,
) -> list[Encoded]:
    """Return all groups as token ids; count truncated completions and skipped groups in `counts`.

    `positions` is the largest number of tokens that the model can read. Raises ConfigError where
    prompts leave no room for completions, where a row is longer than `positions` or where the chat
    template does not write all of it, unless `skip_bad` is set.
    """
    encoded: list[Encoded] = []
    bad: list[str] = []
    for group in with_progress(groups, "encoding"):
        try:
            encoded.append(encode_group(group, tokenizer, max_length, positions, counts))
        except BadRow as error:
            bad.append(f"{group.where}: {error}")
    raise_for_bad_rows(bad, len(groups), skip_bad)
    counts["left out"] += len(bad)
    return encoded


def encode_group(
    group: Group,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    positions: int | None,
    counts: Counter[str],
) -> Encoded:
    """Return a group as token ids; raises BadRow where it does not fit."""
    whole = [
        completed_ids(group.prompt, completion, tokenizer, group.where, max_length)
        for completion in group.completions
    ]
    sequences = [shorten(completed, max_length, positions) for completed in whole]
    counts["truncated"] += sum(
        found.cut or len(found.prompt) + len(found.completion) > max_length for found in whole
    )
    counts["opened otherwise"] += any(found.differs for found in whole)
    digest = prompt_digest(group.prompt)
    return Encoded(sequences, group.labels, group.weight, digest, group.scores)


def shorten(completed: Completed, max_length: int, positions: int | None) -> Sequence:
    """Return a sequence of at most `max_length` tokens; raises BadRow where it does not fit."""
    prompt = len(completed.prompt)
    if prompt >= max_length:
        raise BadRow(
            "prompt must leave room for a completion within"
            f" domain.max_length={max_length}, found {prompt} tokens"
        )
    ids = (completed.prompt + completed.completion)[:max_length]
    if positions is not None and len(ids) > positions:
        raise BadRow(
            f"{len(ids)} tokens, and the model reads at most {positions};"
            f" domain.max_length={positions} truncates completions to that"
        )
    return Sequence(ids, prompt)


def prompt_digest(prompt: Text) -> bytes:
    """Return a digest that is equal for equal prompts, as text or as one message of the user."""
    if not isinstance(prompt, str) and len(prompt) == 1 and set(prompt[0]) == {"role", "content"}:
        prompt = prompt[0]["content"] if prompt[0]["role"] == "user" else prompt
    text = prompt.strip() if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=12).digest()


def weighed(groups: list[Encoded]) -> list[Encoded]:
    """Return the groups with weights in proportion, whose sum over completions is N·K.

    N is the number of groups, and K that of the completions of the largest one. A mean over [N, K]
    with 0 in the empty places is then the weighted mean over completions.
    """
    total = sum(group.weight * len(group.labels) for group in groups)
    mean = total / (len(groups) * max(len(group.labels) for group in groups))
    return [group._replace(weight=group.weight / mean) for group in groups]


def epoch_batches(
    groups: list[Encoded], size: int, tokens: int, seed: int, epoch: int
) -> list[list[int]]:
    """Return the batches of an epoch as indices, shuffled, with similar lengths in each batch.

    Every group is in one batch. Batches have nearly equal numbers of groups, at most `size`, or
    fewer where they would hold more than `tokens` tokens (0: no limit).
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    shuffled = torch.randperm(len(groups), generator=generator).tolist()
    batches: list[list[int]] = []
    for window in even_parts(shuffled, WINDOW * size):
        batches += alike_in_length(groups, window, size, tokens)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def alike_in_length(
    groups: list[Encoded], chosen: list[int], size: int, tokens: int
) -> list[list[int]]:
    """Return the chosen groups in batches of at most `size` groups and `tokens` tokens."""
    lengths = {g: max(len(sequence.ids) for sequence in groups[g].sequences) for g in chosen}
    ordered = sorted(chosen, key=lambda g: lengths[g])
    if not tokens:
        return even_parts(ordered, size)
    batches: list[list[int]] = []
    while ordered:
        sizes = [(lengths[g], len(groups[g].sequences)) for g in ordered[:size]]
        count = count_within_budget(sizes, tokens)
        batches.append(ordered[:count])
        ordered = ordered[count:]
    return batches


def even_parts(items: list[int], largest: int) -> list[list[int]]:
    """Return consecutive parts of nearly equal size, as few as hold at most `largest` items."""
    count = -(-len(items) // largest)
    limits = [len(items) * i // count for i in range(count + 1)]
    return [items[start:end] for start, end in itertools.pairwise(limits)]


def count_within_budget(sizes: list[tuple[int, int]], tokens: int) -> int:
    """Return how many of the first groups fit into `tokens` tokens, a multiple of the ranks.

    `sizes` are length and number of completions of each group; all are padded to the largest of
    both. At least one group for each rank is taken, if there are so many.
    """
    ranks = distributed.world_size()
    count = max(len(sizes) // ranks * ranks, min(ranks, len(sizes)))
    while count > ranks and count * math.prod(map(max, zip(*sizes[:count], strict=True))) > tokens:
        count -= ranks
    return count


def rows_batch(
    groups: list[Encoded], pad: int, shared_prompts: bool, scale: float, samples: int = 0
) -> RowsBatch:
    """Return groups as a batch of weight `scale`, whose completions may share their prompts.

    Each group has `samples` places for completions, by default as many as the largest one needs.
    """
    counts = [len(group.labels) for group in groups]
    samples = max(samples, *counts)
    tokens = pack([group.sequences for group in groups], pad, shared_prompts)
    places = torch.tensor([g * samples + k for g, n in enumerate(counts) for k in range(n)])
    labels = torch.zeros(len(groups), samples)
    score = torch.full((len(groups), samples), torch.nan, dtype=torch.float64)
    for i, group in enumerate(groups):
        labels[i, : counts[i]] = torch.tensor(group.labels)
        score[i, : counts[i]] = torch.tensor(group.scores or group.labels, dtype=torch.float64)
    weight = scale * torch.tensor([group.weight for group in groups], dtype=torch.float32)
    accept, reject = labels.clamp(min=0), (-labels).clamp(min=0)
    return RowsBatch(tokens._replace(owner=places[tokens.owner]), accept, reject, weight, score)


def batches(
    groups: list[Encoded], size: int, tokens: int, seed: int, state: dict[str, int]
) -> Iterator[tuple[list[Encoded], float]]:
    """Yield batches for ever, each with its weight, from the epoch and position in `state`.

    `state` is updated. The weight is the batch's number of groups over the mean of the first epoch,
    so that each group counts equally, in every batch and every epoch. Where the ranks cannot share
    a batch evenly, copies of its first group fill it up, with weight 0.
    """
    mean = len(groups) / len(epoch_batches(groups, size, tokens, seed, epoch=0))
    while True:
        epoch = epoch_batches(groups, size, tokens, seed, state["epoch"])
        while state["position"] < len(epoch):
            chosen = [groups[i] for i in epoch[state["position"]]]
            state["position"] += 1
            missing = -len(chosen) % distributed.world_size()
            chosen += [chosen[0]._replace(weight=0.0)] * missing
            yield chosen, len(chosen) / mean
        state["epoch"], state["position"] = state["epoch"] + 1, 0
