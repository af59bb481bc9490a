"""Labels that are few or wrong: what the learner sees, and what stays as it was."""

import pytest
import torch

from suite.config.fields import ConfigError
from suite.config.registry import DOMAINS
from suite.config.schema import LabelNoiseConfig
from suite.feedback.feedback import Feedback, Labels, Shares
from suite.feedback.label_noise import LabelNoise
from suite.feedback.labelling import label_by_rank
from suite.objectives.pmpo import pmpo
from suite.system import distributed
from suite.testing.shared import build
from tests.conftest import Tiny

GENERATOR = torch.Generator().manual_seed(0)
TRUE = label_by_rank(torch.randn(50_000, 4, generator=GENERATOR), top=1, bottom=2)
SHARES = Shares(0.25, 0.5)


def said(mode: str = "mixed", **plan: float) -> Labels:
    label_noise = LabelNoise(mode, LabelNoiseConfig(**plan))
    seed = torch.Generator().manual_seed(1)
    return label_noise.apply(TRUE, label_noise.shares(SHARES), seed)


def test_all_true_labels_pass_as_they_are_and_take_no_random_numbers() -> None:
    state = torch.get_rng_state()
    found = LabelNoise("mixed").apply(TRUE, SHARES)
    assert torch.equal(found.accept, TRUE.accept)
    assert torch.equal(found.reject, TRUE.reject)
    assert torch.equal(state, torch.get_rng_state())


def test_kept_labels_are_as_many_as_asked_for_and_weigh_as_much_as_all() -> None:
    found = said(keep=0.2)
    for seen, true in zip(found, TRUE, strict=True):
        assert (seen > 0).sum() / true.sum() == pytest.approx(0.2, abs=0.01)
        assert seen.sum() / true.sum() == pytest.approx(1, abs=0.03)
        assert seen[true == 0].sum() == 0


def test_without_any_labels_all_samples_only_anchor() -> None:
    assert all(seen.sum() == 0 for seen in said(keep=0.0))


def test_flipped_labels_are_of_the_other_kind_and_move_the_shares() -> None:
    found = said(flip=1.0)
    assert torch.equal(found.accept, TRUE.reject)
    assert torch.equal(found.reject, TRUE.accept)
    assert LabelNoise("mixed", LabelNoiseConfig(flip=1.0)).shares(SHARES) == (0.5, 0.25)
    found, shares = said(flip=0.1), LabelNoise("mixed", LabelNoiseConfig(flip=0.1)).shares(SHARES)
    assert shares == pytest.approx((0.9 * 0.25 + 0.1 * 0.5, 0.9 * 0.5 + 0.1 * 0.25))
    assert found.accept.mean().item() == pytest.approx(shares.accept, abs=0.005)
    assert found.reject.mean().item() == pytest.approx(shares.reject, abs=0.005)


@pytest.mark.parametrize("ratio", [0.1, 3.0])
def test_the_ratio_thins_out_the_more_frequent_kind(ratio: float) -> None:
    found = said(ratio=ratio)
    accepted, rejected = ((seen > 0).sum().item() for seen in found)
    assert accepted / rejected == pytest.approx(ratio, rel=0.05)
    untouched = found.reject if ratio < 0.5 else found.accept
    assert untouched.sum() == (TRUE.reject if ratio < 0.5 else TRUE.accept).sum()
    assert found.accept.mean().item() == pytest.approx(SHARES.accept, rel=0.05)


def test_a_swapped_rejection_is_seen_by_those_who_see_acceptances() -> None:
    assert torch.equal(said("positive", flip=1.0).accept, TRUE.reject)
    assert said("positive", flip=1.0).reject.sum() == 0


def test_ranks_share_the_labels_that_one_process_would_see(monkeypatch: pytest.MonkeyPatch) -> None:
    label_noise = LabelNoise("mixed", LabelNoiseConfig(keep=0.5, flip=0.2))
    whole = Labels(*(part[:8] for part in TRUE))
    torch.manual_seed(3)
    alone = label_noise.apply(whole, SHARES)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        torch.manual_seed(3)
        found = label_noise.apply(Labels(*map(distributed.local_slice, whole)), SHARES)
        assert torch.equal(found.accept, distributed.local_slice(alone.accept))


def gradient(labels: Labels, shares: Shares, alpha: float) -> torch.Tensor:
    """Of the PMPO loss for the mean of a Gaussian, whose samples are ranked by their value."""
    generator = torch.Generator().manual_seed(2)
    samples = torch.randn(50_000, 4, generator=generator).sort(1, descending=True).values
    mean = torch.zeros((), requires_grad=True)
    logp = -((samples - mean) ** 2) / 2
    feedback = Feedback(logp, (mean**2 / 2).expand(50_000), *labels)
    pmpo(feedback, alpha=alpha, beta=1.0, shares=shares).loss.backward()
    assert mean.grad is not None
    return mean.grad


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_gradient_is_unbiased_with_few_labels_and_shrinks_with_wrong_ones(alpha: float) -> None:
    """With half of the samples accepted, swaps leave (1 − 2·flip) of what labels say."""
    order = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).expand(50_000, 4)
    true, shares = label_by_rank(order, 2, 2), Shares(0.5, 0.5)
    expected = gradient(true, shares, alpha)
    # m of PAPER.md §2.5: the mean of the two best of four standard normals.
    assert expected.item() == pytest.approx(-0.6633, abs=0.01)
    for plan, factor in ((LabelNoiseConfig(keep=0.2), 1.0), (LabelNoiseConfig(flip=0.2), 0.6)):
        torch.manual_seed(0)
        found = gradient(LabelNoise("mixed", plan).apply(true, shares), shares, alpha)
        assert found.item() == pytest.approx(factor * expected.item(), abs=0.02)


@pytest.mark.parametrize("name", DOMAINS)
def test_every_domain_asks_the_teacher(tiny: Tiny, name: str) -> None:
    plain, none = build(tiny(name)), build(tiny(name, "labels.keep=0"))
    swapped = build(tiny(name, "labels.flip=1"))
    batch = plain.feedback(next(iter(plain.train_dataloader())))
    other = swapped.feedback(next(iter(swapped.train_dataloader())))
    assert batch.accept.sum() + batch.reject.sum() > 0
    assert torch.equal(batch.accept > 0, other.reject > 0)
    assert torch.equal(batch.reject > 0, other.accept > 0)
    assert swapped.shares == pytest.approx(plain.shares[::-1])
    anchored = none.feedback(next(iter(none.train_dataloader())))
    assert anchored.accept.sum() + anchored.reject.sum() == 0
    assert none.shares == plain.shares


@pytest.mark.parametrize("objective", ["dpo", "mpo"])
def test_objectives_without_labels_refuse_settings_of_labels(tiny: Tiny, objective: str) -> None:
    with pytest.raises(ConfigError, match=r"labels\.\* must be left alone with objective.name="):
        tiny("bandit", f"objective={{name: {objective}}}", "labels.keep=0.5")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("labels.keep=1.5", "labels.keep must be at most 1, found 1.5"),
        ("labels.flip=-1", "labels.flip must be at least 0, found -1"),
        ("labels.ratio=0", "labels.ratio must be greater than 0, found 0"),
    ],
)
def test_impossible_labels_are_refused(tiny: Tiny, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny("bandit", override)


@pytest.mark.parametrize("labels", ["labels.keep=0.5", "labels.ratio=0.2"])
def test_means_per_context_are_refused_where_labels_are_left_out(tiny: Tiny, labels: str) -> None:
    with pytest.raises(ConfigError, match=r"objective\.normalization must be shares with labels"):
        tiny("bandit", labels, "objective.normalization=context")
    tiny("bandit", "labels.flip=0.1", "objective.normalization=context")
