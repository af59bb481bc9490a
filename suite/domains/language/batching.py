"""Rows as token ids, in batches without much padding.

Shapes: N sequences, L tokens of the longest.
"""

import hashlib
import json
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
    return Encoded(sequences, group.labels, group.weight, prompt_digest(group.prompt))


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


def equal_groups(groups: list[Encoded]) -> list[Encoded]:
    """Return the groups if all have equally many completions, else each completion as a group."""
    if len({len(group.sequences) for group in groups}) == 1:
        return groups
    return [
        Encoded([sequence], [label], group.weight, group.prompt)
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
