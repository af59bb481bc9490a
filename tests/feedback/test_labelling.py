"""From scores to accept and reject weights."""

import pytest
import torch

from suite.feedback.labelling import (
    label_by_mean,
    label_by_rank,
    label_by_sign,
    label_by_threshold,
    label_scores,
)

SCORE = torch.tensor([[0.1, 0.9, 0.5, 0.3], [2.0, 2.0, 2.0, 2.0]])


def test_rank_labels_take_the_best_and_the_worst_and_none_of_equals_on_both_sides() -> None:
    labels = label_by_rank(SCORE, top=1, bottom=2)
    assert labels.accept.tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]
    assert labels.reject.tolist() == [[1, 0, 0, 1], [0, 0, 0, 0]]
    partly = label_by_rank(torch.tensor([[3.0, 2.0, 2.0, 1.0]]), top=2, bottom=2)
    assert partly.accept.tolist() == [[1, 0, 0, 0]]
    assert partly.reject.tolist() == [[0, 0, 0, 1]]
    assert label_by_rank(SCORE, top=4, bottom=0).accept.min() == 1, "all are among the best four"


@pytest.mark.parametrize("by", ["threshold", "ranks", "mean"])
def test_labels_move_with_their_samples_and_equals_have_equal_labels(by: str) -> None:
    draw = torch.Generator().manual_seed(0)
    for _ in range(50):
        samples = int(torch.randint(1, 8, (), generator=draw))
        top = int(torch.randint(0, samples + 1, (), generator=draw))
        score = torch.randint(0, 4, (6, samples), generator=draw).double() / 10
        order = torch.randperm(samples, generator=draw)
        labels = label_scores(score, by, 0.2, top, samples - top)
        moved = label_scores(score[:, order], by, 0.2, top, samples - top)
        assert torch.equal(moved.accept, labels.accept[:, order])
        assert torch.equal(moved.reject, labels.reject[:, order])
        assert (labels.accept * labels.reject).max() == 0
        signed = labels.accept - labels.reject
        equal = score[:, :, None] == score[:, None, :]
        assert (signed[:, :, None] == signed[:, None, :])[equal].all()


def test_equal_scores_are_neither_above_nor_below_their_mean() -> None:
    assert sum([0.1] * 3) / 3 != 0.1, "rounding would reject them all"
    for kind in (torch.float32, torch.float64):
        labels = label_by_mean(torch.tensor([[0.1, 0.1, 0.1], [0.1, 0.1, 0.2]], dtype=kind))
        assert labels.accept.tolist() == [[0, 0, 0], [0, 0, 1]]
        assert labels.reject.tolist() == [[0, 0, 0], [1, 1, 0]]


def test_rank_labels_only_depend_on_the_order() -> None:
    first, second = label_by_rank(SCORE, 2, 2), label_by_rank(SCORE.exp() * 7 - 3, 2, 2)
    assert torch.equal(first.accept, second.accept)
    assert torch.equal(first.reject, second.reject)


def test_overlapping_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="top=3 and bottom=2 overlap: there are 4 samples"):
        label_by_rank(SCORE, 3, 2)


def test_sign_labels_accept_zero_and_ignore_magnitude() -> None:
    labels = label_by_sign(torch.tensor([[-0.01, 0.0, 100.0]]))
    assert labels.accept.tolist() == [[0, 1, 1]]
    assert labels.reject.tolist() == [[1, 0, 0]]


def test_threshold_labels_accept_from_the_threshold_on() -> None:
    assert label_by_threshold(SCORE, 0.5).accept.tolist() == [[0, 1, 1, 0], [1, 1, 1, 1]]


def test_feedback_hides_what_the_learner_may_not_see() -> None:
    labels = label_by_rank(SCORE, 2, 2)
    positive, negative = labels.visible("positive"), labels.visible("negative")
    assert torch.equal(positive.accept, labels.accept)
    assert positive.reject.sum() == 0
    assert torch.equal(negative.reject, labels.reject)
    assert negative.accept.sum() == 0
    mixed = labels.visible("mixed")
    assert torch.equal(mixed.accept, labels.accept)
    assert torch.equal(mixed.reject, labels.reject)
