"""DPO on groups of samples. Source: arXiv 2305.18290, eq. 7. Shapes: B contexts, K samples each."""

from typing import NamedTuple

from torch import Tensor

from suite.feedback.feedback import Feedback
from suite.objectives.bound import BoundLoss
from suite.objectives.inputs import log_ratio, logistic_loss
from suite.objectives.pairing import pair_terms, pair_up
from suite.objectives.pairs_config import DPOConfig


class DPOTerms(NamedTuple):
    """The loss and its diagnostics."""

    dpo: Tensor
    """[] −log σ(β·Δ), a mean over the pairs of a context, then over contexts by their weights."""
    pair_accuracy: Tensor
    """[] share of pairs that the policy's implicit reward orders as the scores do."""

    @property
    def loss(self) -> Tensor:
        """[] the DPO loss."""
        return self.dpo


def dpo(feedback: Feedback, *, beta: float, pairs: str = "best_worst") -> DPOTerms:
    """Return −log σ(β(r(y⁺) − r(y⁻))), r(y) = log π(y|x) − log π_ref(y|x) (eq. 7).

    Which samples are compared says `pairs` (suite.objectives.pairing). A context without a pair
    contributes 0.
    Raises ValueError without reference log-probabilities, and as `pair_up` does.
    """
    ratio = log_ratio(feedback)
    pair = pair_up(feedback, pairs)
    difference = pair.difference(ratio)
    terms = pair_terms(feedback, pair, logistic_loss(beta * difference), difference)
    return DPOTerms(terms.preference, terms.pair_accuracy)


def bind(settings: DPOConfig, feedback: str, dimensions: int | None) -> BoundLoss:
    """Bind the settings; `feedback` is always mixed."""
    return BoundLoss(settings, feedback, dpo)
