"""Log-probability, KL and entropy of completions under policy and reference.

Shapes: N sequences, T completion tokens in all, H hidden units.
"""

from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from transformers import PreTrainedModel

from suite.config.fields import ConfigError
from suite.domains.language.head import Head, Statistics, token_statistics
from suite.domains.language.models import Pair, as_reference, causal_lm
from suite.domains.language.packing import Sequence, Tokens, attention_mask, pack
from suite.feedback.feedback import TokenFeedback
from suite.system.timing import add_count, timed


def compare(
    pair: Pair,
    tokens: Tokens,
    count: int,
    *,
    divergence: str = "forward",
    temperature: float = 1.0,
    entropy: bool = False,
) -> tuple[Statistics, TokenFeedback]:
    """Return sums over each of `count` sequences, [N] in nats, and the values of their tokens.

    The KL is exact over the vocabulary at every prefix; where the prefixes are completions that
    π_ref drew, the sum is an unbiased estimate of the sequences' KL (arXiv 2410.04166).
    """
    if torch.is_grad_enabled():
        add_count("tokens", tokens.input_ids.numel())
    with timed("reference"), as_reference(pair) as model:
        reference_states = completion_states(model, tokens)
        reference_head = Head.of(model, temperature)
    with timed("policy"):
        model = causal_lm(pair.policy)
        states, head = completion_states(model, tokens), Head.of(model, temperature)
        per_token = token_statistics(
            *(states, head, reference_states, reference_head, tokens.targets),
            divergence=divergence,
            entropy=entropy,
        )
    empty = per_token.logp.new_zeros(count)
    sums = Statistics(*(empty.index_add(0, tokens.owner, part) for part in per_token))
    return sums, TokenFeedback(per_token.logp, per_token.reference_logp, tokens.owner)


def completion_states(model: PreTrainedModel, tokens: Tokens) -> Tensor:
    """Return the final hidden state before every completion token, [T, H]."""
    # Rows padded on the right need no mask: causal attention never reaches the padding.
    named: dict[str, Any] = {}
    if tokens.shared:
        named = {"position_ids": tokens.positions, "attention_mask": attention_mask(tokens, model)}
    states: Tensor = model.base_model(
        input_ids=tokens.input_ids, use_cache=False, **named
    ).last_hidden_state
    return states.flatten(0, 1)[tokens.state_index]


@torch.no_grad()
def check_model(model: PreTrainedModel, key: str) -> None:
    """Raise ConfigError where `Head` does not reproduce the logits of a model."""
    ids = torch.arange(6, device=model.device)[None] % model.config.vocab_size
    expected = model(input_ids=ids, use_cache=False).logits[0].float()
    states: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    head = Head.of(model)
    logits = head.logits(states, head.low(states), expected.shape[-1])
    if (logits - expected).norm() > tolerance(states) * expected.norm():
        raise ConfigError(
            f"{key}: models of type {model.config.model_type} make their logits in a way that is"
            " not supported here"
        )


def tolerance(states: Tensor) -> float:
    """Return the largest relative difference between two ways to compute the same tensor."""
    return 1e-3 if states.dtype == torch.float32 else 2e-2


@torch.no_grad()
def can_share_prompts(model: PreTrainedModel, pad: int) -> bool:
    """Tell, by trying, whether a model's completions may share their prompt; masks differ."""
    prompt = [pad] * 3
    group = [Sequence([*prompt, *range(k, k + 4)], 3) for k in range(3)]
    if model.config._attn_implementation not in ("sdpa", "eager"):
        return False  # other implementations take no such mask
    training = model.training
    model.eval()
    try:
        alone, together = (
            completion_states(model, move_data_to_device(packed, model.device))
            for packed in (pack([group], pad, shared_prompts) for shared_prompts in (False, True))
        )
    except (TypeError, ValueError, RuntimeError):  # models that take no such mask or positions
        return False
    finally:
        model.train(training)
    return bool((alone - together).norm() <= tolerance(alone) * alone.norm())
