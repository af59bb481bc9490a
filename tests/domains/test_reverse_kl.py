"""KL(π ‖ π_ref) as every domain gives it to the objectives that ask for it."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from suite.config.registry import DOMAINS
from suite.domains.bandit.policy import GaussianSearch
from suite.domains.base import Domain
from suite.domains.control.online import Control
from suite.domains.language.models import as_reference, causal_lm
from suite.domains.language.offline import Rows
from suite.domains.language.online import LanguageModel
from suite.objectives.config import PMPOConfig
from suite.testing.shared import build, first_feedback
from tests.conftest import Tiny

WITHOUT = {"offline"}  # the behaviour of recorded episodes has no density


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """PMPO asks for the reverse KL, as some objectives do."""
    monkeypatch.setattr(PMPOConfig, "needs_reverse_kl", True)


def move(domain: Domain, size: float = 0.05) -> None:
    """Move the policy away from the reference."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in domain.policy.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=size)


@pytest.mark.parametrize("name", DOMAINS)
def test_it_is_absent_unless_an_objective_asks(tiny: Tiny, name: str) -> None:
    assert first_feedback(build(tiny(name))).reverse_kl is None


@pytest.mark.usefixtures("asking")
@pytest.mark.parametrize("name", DOMAINS)
def test_it_is_zero_at_the_start_and_then_the_closed_form(tiny: Tiny, name: str) -> None:
    domain = build(tiny(name))
    batch = next(iter(domain.train_dataloader()))
    found = domain.feedback(batch).reverse_kl
    assert (found is None) == (name in WITHOUT)
    if found is None:
        return
    assert found.shape == (len(domain.feedback(batch).logp),)
    assert found.eq(0).all()
    move(domain)
    feedback = domain.feedback(batch)
    assert feedback.reverse_kl is not None
    assert not feedback.reverse_kl.requires_grad
    torch.testing.assert_close(
        feedback.reverse_kl.double(), expected(domain, batch), rtol=1e-4, atol=1e-5
    )
    assert feedback.reverse_kl.min() > 0
    assert not torch.allclose(feedback.reverse_kl, feedback.kl, rtol=1e-3), "it is the other one"
    assert first_part(domain, batch, feedback.reverse_kl)


def expected(domain: Domain, batch: Any) -> Tensor:
    """The reverse KL by torch.distributions, or by all logits of every sequence alone, [B]."""
    with torch.no_grad():
        if isinstance(domain, Control | GaussianSearch):
            if isinstance(domain, Control):
                policy, reference = domain.policy.actor(batch.next_observation), batch.reference
            else:
                policy, reference = domain.policy(), domain.reference()
            p, q = (
                Independent(Normal(mean.double(), std.double()), 1)
                for mean, std in (policy, reference)
            )
            return kl_divergence(p, q).expand(len(batch.score))
        assert isinstance(domain, Rows | LanguageModel)
        scale = domain.settings.temperature if isinstance(domain, LanguageModel) else 1.0
        return by_all_logits(domain, batch, scale)


def by_all_logits(domain: Rows | LanguageModel, batch: Any, scale: float) -> Tensor:
    sums = torch.zeros(batch.score.numel(), dtype=torch.float64)
    present, number = (~batch.score.isnan()).flatten().nonzero()[:, 0].tolist(), 0
    rows = zip(batch.tokens.input_ids, batch.tokens.segments, strict=True)
    for ids, segments in rows:
        prompt = ids[segments == 0]
        for segment in range(1, int(segments.max()) + 1):
            whole = torch.cat([prompt, ids[segments == segment]])[None]
            ours = causal_lm(domain.policy)(input_ids=whole).logits
            with as_reference(domain.pair) as model:
                theirs = model(input_ids=whole).logits
            p, q = (
                (x[0, len(prompt) - 1 : -1].double() / scale).log_softmax(-1)
                for x in (ours, theirs)
            )
            sums[present[number]] = (p.exp() * (p - q)).sum()
            number += 1
    return sums.view(batch.score.shape).sum(1) / (~batch.score.isnan()).sum(1)


def first_part(domain: Domain, batch: Any, whole: Tensor) -> bool:
    """Tell whether the first context alone has the same reverse KL, where a batch can be cut."""
    if isinstance(domain, Rows | LanguageModel):
        return True  # batches of these are packed; see below
    again = domain.feedback(cut(batch)).reverse_kl
    assert again is not None
    return torch.allclose(again, whole[:1])


def cut(parts: Any) -> Any:
    """Return the first context of a batch."""
    return type(parts)(*(cut(x) if isinstance(x, tuple) else x[:1] for x in parts))
