"""Batches of rows: each once per epoch, alike in length, within a budget, resumable."""

import itertools

import pytest
import torch

from suite.domains.language.batching import Encoded, batches, epoch_batches, rows_batch
from suite.domains.language.packing import Sequence


def groups_of(lengths: list[int]) -> list[Encoded]:
    return [Encoded([Sequence([1] * n, 1)], [1.0], 1.0) for n in lengths]


def test_batches_hold_every_group_once_per_epoch_and_go_on_where_they_were() -> None:
    groups = groups_of(list(range(2, 32)))
    first, second = (epoch_batches(groups, 5, 0, seed=3, epoch=e) for e in (0, 1))
    assert sorted(i for batch in first for i in batch) == list(range(30))
    assert first != second
    state = {"epoch": 0, "position": 0}
    stream = batches(groups, 5, 0, 3, state)
    drawn = [next(stream) for _ in range(9)]
    again = {"epoch": 0, "position": 4}
    assert list(itertools.islice(batches(groups, 5, 0, 3, again), 5)) == drawn[4:]
    assert state == again == {"epoch": 1, "position": 3}


def uneven() -> list[int]:
    return torch.randint(5, 400, (640,), generator=torch.Generator().manual_seed(0)).tolist()


def test_batches_hold_little_padding() -> None:
    lengths = uneven()
    groups = groups_of(lengths)
    padded = sum(
        rows_batch(
            [groups[i] for i in batch], 0, shared_prompts=False, scale=1
        ).tokens.input_ids.numel()
        for batch in epoch_batches(groups, 8, 0, seed=0, epoch=0)
    )
    assert padded < 1.1 * sum(lengths)


def test_a_budget_of_tokens_is_kept_and_every_group_counts_equally() -> None:
    groups = groups_of(uneven())
    plan = epoch_batches(groups, 64, 2000, seed=0, epoch=0)
    assert sorted(i for batch in plan for i in batch) == list(range(640))
    sizes = [len(batch) for batch in plan]
    assert max(sizes) > 3 * min(sizes), "short ones are many"
    stream = itertools.islice(batches(groups, 64, 2000, 0, {"epoch": 0, "position": 0}), len(plan))
    weights = []
    for chosen, scale in stream:
        batch = rows_batch(chosen, 0, shared_prompts=False, scale=scale)
        assert batch.tokens.input_ids.numel() <= 2000
        weights.append(scale / len(chosen))  # of a group in the mean over its batch
    assert weights == pytest.approx([len(plan) / 640] * len(plan))
    assert sum(weights[0] * n for n in sizes) == pytest.approx(len(plan))


def test_completions_of_one_prompt_are_laid_behind_it_once() -> None:
    group = Encoded([Sequence([7, 8, 9, n], 3) for n in (1, 2)], [1.0, -1.0], 2.0)
    batch = rows_batch([group, group], 0, shared_prompts=True, scale=1)
    assert batch.tokens.input_ids.tolist() == [[7, 8, 9, 1, 2]] * 2
    assert batch.tokens.positions.tolist() == [[0, 1, 2, 3, 3]] * 2
    assert batch.tokens.state_index.tolist() == [2, 2, 7, 7]
    assert batch.tokens.targets.tolist() == [1, 2, 1, 2]
    assert batch.tokens.owner.tolist() == [0, 1, 2, 3]
    assert batch.accept.tolist() == [[1, 0]] * 2
    assert batch.reject.tolist() == [[0, 1]] * 2
    assert batch.weight.tolist() == [2, 2], "of labels and KL alike"
