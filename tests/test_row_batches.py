"""Batches of rows: each once per epoch, alike in length, resumable."""

import itertools

import torch

from suite.domains.rows.tokens import Encoded, Sequence, batches, collate, order


def groups_of(lengths: list[int]) -> list[Encoded]:
    return [Encoded([Sequence([1] * n, 1)], [1.0], 1.0) for n in lengths]


def test_batches_hold_every_group_once_per_epoch_and_go_on_where_they_were() -> None:
    groups = groups_of(list(range(2, 32)))
    first, second = (order(groups, 5, seed=3, epoch=e) for e in (0, 1))
    assert sorted(i for batch in first for i in batch) == list(range(30))
    assert first != second
    state = {"epoch": 0, "position": 0}
    stream = batches(groups, 5, 3, 0, state)
    drawn = [next(stream) for _ in range(9)]
    again = {"epoch": 0, "position": 4}
    assert list(itertools.islice(batches(groups, 5, 3, 0, again), 5)) == drawn[4:]
    assert state == again == {"epoch": 1, "position": 3}


def test_batches_hold_little_padding() -> None:
    lengths = torch.randint(5, 400, (640,), generator=torch.Generator().manual_seed(0)).tolist()
    groups = groups_of(lengths)
    padded = sum(
        collate([groups[i] for i in batch], 0).tokens.input_ids.numel()
        for batch in order(groups, 8, seed=0, epoch=0)
    )
    assert padded < 1.1 * sum(lengths)
