"""Log-probabilities of completions and their divergence from the reference.

Shapes: N sequences (B prompts × K samples), C completion tokens, V vocabulary.
"""

from typing import NamedTuple

from torch import Tensor
from transformers import PreTrainedModel

from suite.divergences import categorical_kl
from suite.domains.lm.sampling import Completions, positions


class SequenceStatistics(NamedTuple):
    """Sums over the completion tokens of each sequence, in nats."""

    logp: Tensor  # [N] log-probability of the completion, end token included
    kl: Tensor  # [N] KL of the next-token distributions along the completion
    entropy: Tensor  # [N] entropy of the policy's next-token distributions


def token_logprobs(model: PreTrainedModel, completions: Completions) -> Tensor:
    """Return the next-token log-probabilities at every completion position, [N, C, V] in fp32."""
    length = completions.completion_mask.shape[1]
    logits: Tensor = model(
        input_ids=completions.input_ids,
        attention_mask=completions.attention_mask,
        position_ids=positions(completions.attention_mask),
        use_cache=False,
        logits_to_keep=length + 1,
    ).logits[:, :-1]
    return logits.float().log_softmax(-1)


def sequence_statistics(
    logprobs: Tensor,  # [N, C, V] of the policy
    reference_logprobs: Tensor,  # [N, C, V]
    completions: Completions,
    divergence: str = "forward",
) -> SequenceStatistics:
    """Sum log-probability, KL and entropy over completion tokens (arXiv 2410.04166).

    The KL is exact over the vocabulary at every prefix, and the prefixes are the completions
    themselves, which π_ref drew: the sum is an unbiased estimate of the sequences' KL.
    """
    mask = completions.completion_mask
    targets = completions.input_ids[:, -mask.shape[1] :, None]
    chosen = logprobs.gather(-1, targets)[..., 0]
    first, second = logprobs, reference_logprobs
    if divergence == "forward":
        first, second = second, first
    return SequenceStatistics(
        logp=(chosen * mask).sum(1),
        kl=(categorical_kl(first, second) * mask).sum(1),
        entropy=(-(logprobs.exp() * logprobs).sum(-1) * mask).sum(1),
    )
