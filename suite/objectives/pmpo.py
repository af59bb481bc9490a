"""PMPO: learn from accepted samples, rejected samples, or both.

Shapes: B contexts, K samples per context. Source: arXiv 2410.04166, eq. 10; further
results are derived in docs/theory.md, cited as theory §n.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from suite.feedback.feedback import Feedback, Shares
from suite.objectives.bounds import effective_mass, smallest_beta
from suite.objectives.calibration import calibrated_beta, check_mass
from suite.objectives.config import PMPOConfig
from suite.objectives.inputs import check_shapes

DEFAULT_GUARD = 0.1  # ε of `auto`
GUARDED_SHARE = 0.999  # share of rejections above which `auto` guards
SCARCE = 1e-3  # a label with a smaller share counts less, and not at all at a share of 0
SCARCE_REJECTIONS = 0.05  # the same for rejections under `beta: auto`, whose β ends at their bound


class PMPOTerms(NamedTuple):
    """The three terms, which sum to the loss, and a diagnostic."""

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

    Departures from the paper: `shares`; `feedback.weight`, under which all three terms are means;
    `divergence="reverse"`, with which `feedback.kl` holds KL(π ‖ π_ref), which does not bound the
    negative term on fixed samples and is refused where rejected samples count; and
    `covariance_weight`, the weight of the covariance part of a Gaussian's KL. With 1, the paper's
    KL, the deviation shrinks at every update of the reference until exploration ends (theory §5,
    §11).

    With a `guard` ε a rejected token weighs at most (1 − ε)·β·π_ref(token). Then each token has an
    optimum, also on a fixed file, where a completion is rarer than its share (theory §12).

    Raises ValueError for shapes that differ, α outside [0, 1], β < 0, a refused divergence, a
    covariance weight without the parts of the KL, or a guard without tokens.
    """
    check_arguments(feedback, alpha, beta, divergence)
    kl = feedback.kl if covariance_weight == 1 else weighted_kl(feedback, covariance_weight)
    accepted = expectation(feedback, feedback.logp, feedback.accept, shares and shares.accept)
    logp = feedback.logp
    if guard is not None and alpha < 1:
        logp = guarded_logp(feedback, (1 - guard) * beta, (1 - alpha), shares)
    rejected = expectation(feedback, logp, feedback.reject, shares and shares.reject)
    return PMPOTerms(
        accepted=-alpha * accepted,
        rejected=(1 - alpha) * rejected,
        anchor=beta * feedback.weighted(kl).mean(),
        # A constant tensor would be compiled again for every β.
        effective_mass=torch.ones(()) * effective_mass(alpha, beta),
    )


def expectation(feedback: Feedback, logp: Tensor, label: Tensor, share: float | None) -> Tensor:
    """Return the weighted mean of log π over one label, [] from [B, K] and [B, K]."""
    if share is None:
        total = label.sum(1)
        # A context without this label contributes 0, and its gradient stays finite.
        return feedback.weighted((label * logp).sum(1) / total.where(total > 0, 1)).mean()
    summed = feedback.weighted(label * logp)
    return summed.mean() / share if share > 0 else summed.sum() * 0


def guarded_logp(
    feedback: Feedback, allowed: float, strength: float, shares: Shares | None
) -> Tensor:
    """Return log π as the sum of its tokens, each with its guarded weight, [B, K]."""
    if feedback.tokens is None or shares is None:
        raise ValueError("guard needs feedback.tokens, of a language model, and shares")
    logp, reference_logp, owner = feedback.tokens
    # A context's weight counts in its KL too, and is no part of what is compared.
    scale = strength / shares.reject if shares.reject > 0 else 0.0
    weight = scale * feedback.reject.flatten()[owner]
    factor = allowed * reference_logp.exp() / weight.clamp(min=torch.finfo(weight.dtype).tiny)
    summed = logp.new_zeros(feedback.logp.numel()).index_add(0, owner, factor.clamp(max=1) * logp)
    return summed.view(feedback.logp.shape)


def weighted_kl(feedback: Feedback, covariance_weight: float) -> Tensor:
    """Return the divergence with its covariance part weighted, [B]."""
    if feedback.kl_parts is None:
        raise ValueError("covariance_weight needs feedback.kl_parts, of a Gaussian policy")
    return feedback.kl_parts.total(covariance_weight)


def check_arguments(feedback: Feedback, alpha: float, beta: float, divergence: str) -> None:
    """Raise ValueError for shapes that would broadcast, and for a loss without a minimum."""
    check_shapes(feedback)
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
    gaussian_policy: bool

    def alpha_under(self, shares: Shares) -> float:
        """Return α as given, or nearer to 1 where hardly anything is rejected.

        There a rejected sample weighs less the fewer there are, so that β, which would be in
        proportion to 1/Z0, has a ceiling; without rejections α is 1 and no β is needed, as under
        `feedback: positive`. All this is continuous in the shares (theory §15).
        """
        by_margin = isinstance(self.settings.beta, str) and self.settings.calibrate is None
        scarce = SCARCE_REJECTIONS if by_margin else SCARCE
        if shares.reject >= scarce:
            return self.alpha
        return 1 - (1 - self.alpha) * (shares.reject / scarce) ** 2

    def beta(self, shares: Shares) -> float:
        """Return β as given, margin·(1−α)/Z0 (theory §2), or what `calibrate` asks for."""
        if self.settings.calibrate is not None:
            mass = self.settings.calibrate
            return calibrated_beta(self.alpha_under(shares), mass, shares)
        if isinstance(self.settings.beta, str):
            return self.settings.margin * smallest_beta(self.alpha_under(shares), shares.reject)
        return self.settings.beta

    def guard(self, shares: Shares) -> float | None:
        """Return ε as given; `auto` guards only where nearly all labels reject (theory §12)."""
        if isinstance(self.settings.guard, str):
            return DEFAULT_GUARD if shares.reject > GUARDED_SHARE else None
        return self.settings.guard

    def __call__(self, feedback: Feedback, shares: Shares) -> PMPOTerms:
        """Return the loss terms of one batch."""
        divisors = Shares(max(shares.accept, SCARCE), shares.reject)
        return pmpo(
            feedback,
            alpha=self.alpha_under(shares),
            beta=self.beta(shares),
            shares=divisors if self.settings.normalization == "shares" else None,
            divergence=self.settings.divergence,
            covariance_weight=self.settings.covariance_weight,
            guard=self.guard(shares),
        )

    def warning(self, shares: Shares) -> str | None:
        """Return which case of theory holds where β is below (1−α)/Z0 (§2), or at its ceiling.

        Raises ConfigError where `calibrate` is out of reach of the shares.
        """
        if self.settings.calibrate is not None:
            check_mass(self.settings.calibrate, shares)
        by_margin = isinstance(self.settings.beta, str) and self.settings.calibrate is None
        if by_margin and 0 < shares.reject < SCARCE_REJECTIONS:
            return self.scarcity(shares)
        bound = smallest_beta(self.alpha_under(shares), shares.reject)
        beta = self.beta(shares)
        if self.feedback == "positive" or beta >= bound:
            return None
        return (
            f"objective.beta={beta:.3g} is below (1−α)/Z0 = {bound:.3g}:"
            f" {self.below_the_bound(shares)}; objective.beta=auto keeps it bounded"
        )

    def below_the_bound(self, shares: Shares) -> str:
        """Return what happens below the bound (theory §5, §11, §12 and §16)."""
        guard = self.guard(shares)
        if guard is not None:
            return f"objective.guard={guard:g} still gives every token an optimum (theory §12)"
        if self.gaussian_policy:
            return "only a Gaussian's loss may still be bounded (docs/theory.md, sections 5 and 11)"
        mass = effective_mass(self.alpha_under(shares), self.beta(shares))
        limit = (
            f"a table of probabilities ends at (w − τ)₊/M with M = {mass:.3g}, which drops its"
            " rarest outcomes (theory §16)"
            if mass > 0
            else f"as M = {mass:.3g} is not above 0, one outcome is left in the end (theory §16)"
        )
        return f"the loss is unbounded; {limit}, and a network may collapse"

    def scarcity(self, shares: Shares) -> str | None:
        """Return what `beta: auto` does where few samples are rejected, None where none count."""
        if self.alpha == 1:
            return None
        whole = self.settings.margin * smallest_beta(self.alpha, shares.reject)
        return (
            f"objective.beta=auto would be {whole:.3g}, as {shares.reject:.2%} of the samples are"
            " rejected, and hold the policy where it is: below"
            f" {SCARCE_REJECTIONS:.0%} rejections count less, here with β = {self.beta(shares):.3g}"
            f" and α = {self.alpha_under(shares):.3g}; a number for objective.beta keeps α"
        )


def bind(settings: PMPOConfig, feedback: str, dimensions: int | None) -> BoundPMPO:
    """Bind the settings, with α as `feedback` implies unless given."""
    gaussian_policy = dimensions is not None
    return BoundPMPO(settings, settings.alpha_under(feedback), feedback, gaussian_policy)
