"""The per-token guard: what it lets rejected tokens weigh, and the optimum that then exists."""

import pytest
import torch

from suite.config.fields import ConfigError
from suite.domains.bandit.online_config import BanditConfig
from suite.domains.language.head import Head, token_statistics
from suite.domains.language.online_config import LMConfig
from suite.feedback.feedback import Feedback, Shares, TokenFeedback
from suite.objectives.config import PMPOConfig
from suite.objectives.pmpo import bind, pmpo

ALL_REJECTED = Shares(0.0, 1.0)


def sequences(logp: torch.Tensor, reference: torch.Tensor, reject: torch.Tensor) -> Feedback:
    """Two completions of two tokens each, B = 2 and K = 1."""
    owner = torch.tensor([0, 0, 1, 1])
    summed = torch.zeros(2).index_add(0, owner, logp)[:, None]
    tokens = TokenFeedback(logp, reference, owner)
    return Feedback(summed, torch.zeros(2), 1 - reject, reject, tokens=tokens)


def test_a_token_weighs_its_share_or_what_its_reference_probability_allows() -> None:
    # α = 0, β = 2, ε = .1: at most 1.8·π_ref, here 1.62, .36, .9 and .018, where 1 is asked.
    reference = torch.tensor([0.9, 0.2, 0.5, 0.01]).log()
    logp = torch.tensor([-1.0, -2.0, -3.0, -4.0], requires_grad=True)
    reject = torch.ones(2, 1)
    feedback = sequences(logp, reference, reject)
    terms = pmpo(feedback, alpha=0, beta=2, shares=ALL_REJECTED, guard=0.1)
    weights = [1, 0.36, 0.9, 0.018]
    assert terms.rejected.item() == pytest.approx((-1 - 2 * 0.36 - 3 * 0.9 - 4 * 0.018) / 2)
    (gradient,) = torch.autograd.grad(terms.rejected, logp)
    assert gradient.tolist() == pytest.approx([w / 2 for w in weights])


def test_accepted_sequences_are_not_guarded_and_a_wide_guard_changes_nothing() -> None:
    reference = torch.full((4,), 0.5).log()
    logp = torch.tensor([-1.0, -2.0, -3.0, -4.0], requires_grad=True)
    reject = torch.tensor([[1.0], [0.0]])
    shares = Shares(0.5, 0.5)
    feedback = sequences(logp, reference, reject)
    plain = pmpo(feedback, alpha=0.5, beta=4.0, shares=shares)
    guarded = pmpo(feedback, alpha=0.5, beta=4.0, shares=shares, guard=0.0)
    assert guarded == plain, "β·π_ref is 2 where 1 is asked"
    tight = pmpo(feedback, alpha=0.5, beta=4.0, shares=shares, guard=0.9)
    assert tight.accepted == plain.accepted
    assert tight.rejected.item() == pytest.approx(0.2 * plain.rejected.item())


def test_one_rejected_token_ends_at_the_optimum_of_the_theory_rather_than_at_zero() -> None:
    # One token, always the same one rejected, which π_ref draws with probability .2. With β = 1
    # the bound for its share would be 5: without the guard nothing holds it. With it the weight is
    # c = (1−ε)·β·π_ref(y), and the optimum (β·π_ref − c·1[y])/(β − c).
    start = torch.tensor([0.2, 0.5, 0.3]).log()
    epsilon, y = 0.25, torch.tensor([0])
    weight, hidden = start.clone()[:, None].requires_grad_(), torch.ones(1, 1)
    head, reference = Head(weight), Head(start[:, None])
    optimizer = torch.optim.SGD([weight], lr=0.5)
    for _ in range(2000):
        logp, kl, reference_logp, _ = token_statistics(hidden, head, hidden, reference, y)
        tokens = TokenFeedback(logp, reference_logp, torch.zeros(1, dtype=torch.long))
        one = torch.ones(1, 1)
        feedback = Feedback(logp[None], kl, 0 * one, one, tokens=tokens)
        loss = pmpo(feedback, alpha=0, beta=1, shares=ALL_REJECTED, guard=epsilon).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    c = (1 - epsilon) * 0.2
    expected = (torch.tensor([0.2, 0.5, 0.3]) - torch.tensor([c, 0, 0])) / (1 - c)
    torch.testing.assert_close(weight[:, 0].softmax(0), expected, atol=1e-4, rtol=0)


def test_it_needs_tokens_and_shares() -> None:
    feedback = sequences(torch.zeros(4), torch.zeros(4), torch.ones(2, 1))
    with pytest.raises(ValueError, match=r"guard needs feedback.tokens"):
        pmpo(feedback._replace(tokens=None), alpha=0, beta=1, shares=ALL_REJECTED, guard=0.1)
    with pytest.raises(ConfigError, match=r"objective.guard=0.1 needs a language model and"):
        PMPOConfig(guard=0.1).check("negative", BanditConfig())
    with pytest.raises(ConfigError, match=r"objective.guard=0.1 needs a language model and"):
        PMPOConfig(guard=0.1, normalization="context").check("negative", LMConfig())


def test_by_itself_it_comes_where_nothing_but_rejections_is_there() -> None:
    objective = bind(PMPOConfig(guard="auto"), "negative", None)
    assert objective.guard(ALL_REJECTED) == 0.1
    assert objective.guard(Shares(0.2, 0.8)) is None
    assert objective.guard(Shares(0.0, 0.8)) is None, "the rest anchors, and tells Z0"
    with pytest.raises(ConfigError, match=r"objective.guard must be a number or 'auto', found 'x'"):
        PMPOConfig(guard="x").check("negative", LMConfig())


def test_the_warning_of_a_small_beta_says_whether_a_guard_keeps_an_optimum() -> None:
    for guard, told in ((None, "the loss is unbounded"), (0.1, "every token an optimum")):
        objective = bind(PMPOConfig(beta=0.5, guard=guard), "negative", None)
        warning = objective.warning(ALL_REJECTED)
        assert warning is not None
        assert told in warning
