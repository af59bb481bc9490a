"""The contract that every domain keeps; a new domain is tested by adding it to conftest.TINY."""

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from suite.config.fields import ConfigError
from suite.config.registry import DOMAINS, OBJECTIVES, choose
from suite.config.schema import Config
from suite.domains.base import Domain, build_domain
from suite.objectives.base import build_objective
from tests.conftest import TINY, Tiny

MODES = ("positive", "negative", "mixed")


def build(config: Config) -> Domain:
    torch.manual_seed(config.seed)
    return build_domain(config, cache=Path(config.results_dir))


def test_every_domain_is_under_contract() -> None:
    assert set(TINY) == set(DOMAINS)


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize("mode", MODES)
def test_feedback_has_the_promised_shapes_signs_and_gradients(
    tiny: Tiny, name: str, mode: str
) -> None:
    config = tiny(name, f"feedback={mode}")
    domain = build(config)
    feedback = domain.feedback(next(iter(domain.train_dataloader())))
    contexts, samples = feedback.logp.shape
    assert feedback.kl.shape == (contexts,)
    assert feedback.reference_logp.shape == feedback.score.shape == (contexts, samples)
    assert (feedback.kl >= -1e-6).all()
    for weight in (feedback.accept, feedback.reject):
        assert weight.shape == (contexts, samples)
        assert (weight >= 0).all()
    assert (feedback.accept * feedback.reject == 0).all()
    assert (feedback.kl_parts is not None) == config.domain.closed_form_kl
    if feedback.kl_parts is not None:
        assert domain.dimensions is not None
        for part in feedback.kl_parts:
            assert part.shape == (contexts, domain.dimensions)
        torch.testing.assert_close(feedback.kl_parts.total(), feedback.kl)
    assert (mode != "positive") or feedback.reject.sum() == 0
    assert (mode != "negative") or feedback.accept.sum() == 0
    # The policy starts at the reference: same log-probabilities, no divergence.
    torch.testing.assert_close(feedback.logp, feedback.reference_logp, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(feedback.kl, torch.zeros(contexts), atol=1e-5, rtol=0)
    assert not feedback.reference_logp.requires_grad
    feedback.logp.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in domain.policy.parameters())
    assert all(p.grad is None for p in domain.reference.parameters())
    assert 0 <= domain.shares.accept <= 1
    assert 0 <= domain.shares.reject <= 1


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_three_steps_move_the_policy_and_not_the_reference(
    tiny: Tiny, name: str, objective: str
) -> None:
    offline = choose("domain", name).found.recorded
    if objective == "mpo" and not choose("domain", name).found.closed_form_kl and not offline:
        with pytest.raises(ConfigError, match=r"objective.name=mpo .* needs a Gaussian policy"):
            tiny(name, f"objective={{name: {objective}}}")
        return
    if objective in ("dpo", "mpo") and offline:
        with pytest.raises(ConfigError, match=f"objective.name={objective} compares several"):
            tiny(name, f"objective={{name: {objective}}}")
        return
    if (objective, name) == ("weighted", "rows"):
        with pytest.raises(ConfigError, match=r"objective.name=weighted needs scores of a judge"):
            tiny(name, f"objective={{name: {objective}}}")
        return
    config = tiny(name, f"objective={{name: {objective}}}", "seed=1")
    domain, before = build(config), None
    loss_of = build_objective(config.objective, config.feedback, domain.dimensions)
    frozen = copy.deepcopy(domain.reference.state_dict())
    before = copy.deepcopy(domain.policy.state_dict())
    optimizer = torch.optim.Adam(domain.policy.parameters(), lr=1e-2)
    for batch in itertools.islice(domain.train_dataloader(), 3):
        loss = loss_of(domain.feedback(batch), domain.shares).loss
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moved = domain.policy.state_dict()
    assert any(not torch.equal(before[k], moved[k]) for k in before)
    now = domain.reference.state_dict()
    assert all(torch.equal(frozen[k], now[k]) for k in frozen)


def equal(one: Any, other: Any) -> bool:
    """Whether two states are the same, tensors and all."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    same: bool = one == other or (one != one and other != other)  # NaN before the first episode
    return same


@pytest.mark.parametrize("name", DOMAINS)
def test_evaluation_has_a_score_repeats_itself_and_leaves_training_alone(
    tiny: Tiny, name: str
) -> None:
    domain = build(tiny(name))
    before = copy.deepcopy(domain.state_dict())
    first, second = domain.evaluate(), domain.evaluate()
    assert first == second
    assert {"score", "kl"} <= first.keys()
    after = domain.state_dict()
    assert all(equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("name", DOMAINS)
def test_equal_seeds_give_equal_batches_and_other_seeds_others(tiny: Tiny, name: str) -> None:
    def score(seed: int) -> torch.Tensor:
        domain = build(tiny(name, f"seed={seed}"))
        feedback = domain.feedback(next(iter(domain.train_dataloader())))
        return torch.cat([feedback.score, feedback.logp.detach()])

    assert torch.equal(score(1), score(1))
    assert not torch.equal(score(1), score(2))


@pytest.mark.parametrize("name", DOMAINS)
def test_state_continues_the_stream_of_batches(tiny: Tiny, name: str) -> None:
    first = build(tiny(name))
    batches = iter(first.train_dataloader())
    next(batches)
    state = copy.deepcopy(first.state_dict())
    expected = first.feedback(next(batches))
    second = build(tiny(name))
    second.load_state_dict(state)
    found = second.feedback(next(iter(second.train_dataloader())))
    assert torch.equal(expected.score, found.score)
    assert torch.equal(expected.logp, found.logp)
    assert second.shares == first.shares


@pytest.mark.parametrize("name", DOMAINS)
def test_the_policy_is_saved(tiny: Tiny, name: str, tmp_path: Path) -> None:
    build(tiny(name)).save(tmp_path)
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize("name", DOMAINS)
def test_the_reverse_divergence_is_another_one(tiny: Tiny, name: str) -> None:
    if choose("domain", name).found.recorded:
        with pytest.raises(ConfigError, match=r"objective\.divergence must be forward"):
            tiny(name, "feedback=positive", "objective.divergence=reverse")
        return

    def kl(divergence: str) -> torch.Tensor:
        config = tiny(name, "feedback=positive", f"objective.divergence={divergence}")
        domain = build(config)
        with torch.no_grad():
            for i, parameter in enumerate(domain.policy.parameters()):
                generator = torch.Generator().manual_seed(i)
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.3 * noise)
        return domain.feedback(next(iter(domain.train_dataloader()))).kl

    # Only a family whose members have equal deviations may diverge equally both ways.
    if name in ("bandit", "control", "lm"):
        assert not torch.allclose(kl("forward"), kl("reverse"), rtol=1e-3)
    assert (kl("forward") > 0).all()
    assert (kl("reverse") > 0).all()
