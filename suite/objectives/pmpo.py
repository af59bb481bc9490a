"""PMPO: learn from accepted samples, rejected samples, or both.

Shapes: B contexts, K samples per context. Source: arXiv 2410.04166, eq. 10; what follows from it
is derived in docs/theory.md, referred to as theory §n.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from suite.feedback.feedback import Feedback, Shares
from suite.objectives.config import PMPOConfig

USUAL_GUARD, ALL_BUT = 0.1, 0.999  # ε, and the share of rejections from which on it is used
SMALLEST_SHARE = 1e-3  # keeps β finite once the reference is hardly ever rejected


class PMPOTerms(NamedTuple):
    """The three terms of the loss, which sum to it, and what to watch beside them."""

    accepted: Tensor
    """[] −α · mean log-probability of the accepted samples."""
    rejected: Tensor
    """[] (1−α) · mean log-probability of the rejected samples."""
    anchor: Tensor
    """[] β · KL(π_ref ‖ π), with the covariance part weighted."""
    effective_mass: Tensor
    """[] 2α − 1 + β, the mass of the target; the loss has no minimum unless it is positive."""

    @property
    def loss(self) -> Tensor:
        """[] The negative of J in eq. 10."""
        return self.accepted + self.rejected + self.anchor


def pmpo(
    feedback: Feedback,
    *,
    alpha: float,
    beta: float,
    shares: Shares | None = None,
    divergence: str = "forward",
    covariance_weight: float = 1.0,
    guard: float | None = None,
) -> PMPOTerms:
    """Return the terms of −J, J = α·E_a[log π] − (1−α)·E_r[log π] − β·KL(π_ref ‖ π) (eq. 10).

    The two expectations are separately normalised. Without `shares` each is a mean per context,
    then over contexts; a context without the label contributes 0. With `shares`, the data set's
    share of each label is the divisor: sums split exactly over batches and ranks, and no single
    class has to be present (the choice for unpaired rows, K = 1, and for verifier labels).

    Departures from the paper: `shares`; `divergence="reverse"`, which says that `feedback.kl`
    holds KL(π ‖ π_ref) - that one does not bound the negative term on fixed samples, so it is
    refused wherever rejected samples count; and `covariance_weight`, the weight of the divergence
    that a Gaussian's deviation costs. With 1, the paper's KL, the deviation shrinks at every
    refresh of the reference until nothing is explored any more (theory §5, §11).

    With a `guard` ε a rejected token weighs at most (1 − ε)·β·π_ref(token): then each token has an
    optimum, also on a fixed file, whose single completions are rarer than their share (theory §12).

    Raises ValueError for shapes that differ, α outside [0, 1], β < 0, a refused divergence, a
    covariance weight where the feedback does not hold the parts of its divergence, or a guard
    where it does not hold tokens.
    """
    check(feedback, alpha, beta, divergence)
    kl = feedback.kl if covariance_weight == 1 else weighted_kl(feedback, covariance_weight)
    accepted = expectation(feedback.logp, feedback.accept, shares and shares.accept)
    logp = feedback.logp
    if guard is not None and alpha < 1:
        logp = guarded(feedback, (1 - guard) * beta, (1 - alpha), shares)
    rejected = expectation(logp, feedback.reject, shares and shares.reject)
    return PMPOTerms(
        accepted=-alpha * accepted,
        rejected=(1 - alpha) * rejected,
        anchor=beta * kl.mean(),
        # Not a constant tensor: compiled, it would be compiled again for every β.
        effective_mass=torch.ones(()) * effective_mass(alpha, beta),
    )


def expectation(logp: Tensor, weight: Tensor, share: float | None) -> Tensor:
    """Return the weighted mean of log π over one label, [] from [B, K] and [B, K]."""
    if share is None:
        total = weight.sum(1)
        # A context without this label contributes 0, and its gradient stays finite.
        return ((weight * logp).sum(1) / total.where(total > 0, 1)).mean()
    return (weight * logp).mean() / share if share > 0 else (weight * logp).sum() * 0


def guarded(feedback: Feedback, allowed: float, strength: float, shares: Shares | None) -> Tensor:
    """Return log π with each token counted as far as a rejected one may be, [B, K]."""
    if feedback.tokens is None or shares is None:
        raise ValueError("guard needs feedback.tokens, of a language model, and shares")
    logp, reference_logp, owner = feedback.tokens
    asked = strength / max(shares.reject, SMALLEST_SHARE) * feedback.reject.flatten()[owner]
    factor = allowed * reference_logp.exp() / asked.clamp(min=torch.finfo(asked.dtype).tiny)
    summed = logp.new_zeros(feedback.logp.numel()).index_add(0, owner, factor.clamp(max=1) * logp)
    return summed.view(feedback.logp.shape)


def weighted_kl(feedback: Feedback, covariance_weight: float) -> Tensor:
    """Return the divergence with its covariance part weighted, [B]."""
    if feedback.kl_parts is None:
        raise ValueError("covariance_weight needs feedback.kl_parts, of a Gaussian policy")
    return feedback.kl_parts.total(covariance_weight)


def effective_mass(alpha: float, beta: float) -> float:
    """Return M = Σ w = 2α − 1 + β, the total weight of the target distribution."""
    return 2 * alpha - 1 + beta


def smallest_beta(alpha: float, reject_share: float) -> float:
    """Return (1−α)/Z0, the smallest β at which the loss is bounded for deterministic labels."""
    return (1 - alpha) / reject_share if alpha < 1 else 0.0


def check(feedback: Feedback, alpha: float, beta: float, divergence: str) -> None:
    """Refuse what would broadcast silently or has no minimum; raises ValueError."""
    shape = feedback.logp.shape
    found = (tuple(shape), tuple(feedback.accept.shape), tuple(feedback.reject.shape))
    if len(shape) != 2 or len(set(found)) > 1 or feedback.kl.shape != shape[:1]:
        raise ValueError(
            f"logp, accept and reject must be [B, K] and kl [B], found {found}"
            f" and {tuple(feedback.kl.shape)}"
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], found {alpha}")
    if beta < 0:
        raise ValueError(f"beta must be at least 0, found {beta}")
    if divergence not in ("forward", "reverse"):
        raise ValueError(f"divergence must be 'forward' or 'reverse', found {divergence!r}")
    if divergence == "reverse" and alpha < 1:
        raise ValueError(
            f"the reverse KL does not bound the rejected term, which counts at alpha={alpha}:"
            " use divergence='forward', or alpha=1"
        )


@dataclass(frozen=True)
class BoundPMPO:
    """PMPO with its settings: resolves `beta: auto` from the shares of the labels."""

    settings: PMPOConfig
    alpha: float
    feedback: str
    gaussian: bool

    def beta(self, shares: Shares) -> float:
        """Return β as given, or margin·(1−α)/Z0 (theory §2)."""
        if isinstance(self.settings.beta, str):
            return self.settings.margin * smallest_beta(self.alpha, shares.reject)
        return self.settings.beta

    def guard(self, shares: Shares) -> float | None:
        """Return ε as given; where it is to be found, only for rejections alone (theory §12)."""
        if isinstance(self.settings.guard, str):
            return USUAL_GUARD if shares.reject > ALL_BUT else None
        return self.settings.guard

    def __call__(self, feedback: Feedback, shares: Shares) -> PMPOTerms:
        """Return the loss terms of one batch."""
        shares = floored(shares)
        return pmpo(
            feedback,
            alpha=self.alpha,
            beta=self.beta(shares),
            shares=shares if self.settings.normalization == "shares" else None,
            divergence=self.settings.divergence,
            covariance_weight=self.settings.covariance_weight,
            guard=self.guard(shares),
        )

    def warning(self, shares: Shares) -> str | None:
        """Say so where β is below (1−α)/Z0, the bound for deterministic labels (theory §2)."""
        shares = floored(shares)
        beta, bound = self.beta(shares), smallest_beta(self.alpha, shares.reject)
        if self.feedback == "positive" or beta >= bound or self.guard(shares) is not None:
            return None
        what = (
            "only a Gaussian's loss may still be bounded (docs/theory.md, sections 5 and 11)"
            if self.gaussian
            else "the loss is unbounded and the policy may collapse"
        )
        return (
            f"objective.beta={beta:.3g} is below (1−α)/Z0 = {bound:.3g}: {what};"
            " objective.beta=auto keeps it bounded"
        )


def floored(shares: Shares) -> Shares:
    """Return shares that are no smaller than can be divided by, for β and for the means alike."""
    return Shares(max(shares.accept, SMALLEST_SHARE), max(shares.reject, SMALLEST_SHARE))


def bind(settings: PMPOConfig, feedback: str, dimensions: int | None) -> BoundPMPO:
    """Bind the settings, with α as `feedback` implies unless given."""
    gaussian = dimensions is not None
    return BoundPMPO(settings, settings.alpha_under(feedback), feedback, gaussian)
