"""How policy and reference compare on completions: log-probability, KL, entropy.

Shapes: N sequences, T completion tokens in all, H hidden units.
"""

from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from transformers import PreTrainedModel

from suite.config.fields import ConfigError
from suite.domains.language.head import Head, Statistics, token_statistics
from suite.domains.language.models import Pair, as_reference, inner
from suite.domains.language.packing import Sequence, Tokens, attention, collate
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
    """Return the tokens, and before them their sums over each of `count` sequences, [N] in nats.

    The KL is exact over the vocabulary at every prefix; where the prefixes are completions that
    π_ref drew, the sum is an unbiased estimate of the sequences' KL (arXiv 2410.04166).
    """
    if torch.is_grad_enabled():
        add_count("tokens", tokens.input_ids.numel())
    with timed("reference"), as_reference(pair) as model:
        theirs, their_head = completion_states(model, tokens), Head.of(model, temperature)
    with timed("policy"):
        model = inner(pair.policy)
        ours, head = completion_states(model, tokens), Head.of(model, temperature)
        found = token_statistics(
            *(ours, head, theirs, their_head, tokens.targets),
            divergence=divergence,
            entropy=entropy,
        )
    empty = found.logp.new_zeros(count)
    sums = Statistics(*(empty.index_add(0, tokens.owner, part) for part in found))
    return sums, TokenFeedback(found.logp, found.reference_logp, tokens.owner)


def completion_states(model: PreTrainedModel, tokens: Tokens) -> Tensor:
    """Return the final state before every completion token, [T, H]; nothing else is projected."""
    # Rows that end in padding need no mask: nothing real looks at what comes behind it.
    named: dict[str, Any] = {}
    if tokens.shared:
        named = {"position_ids": tokens.positions, "attention_mask": attention(tokens, model)}
    states: Tensor = model.base_model(
        input_ids=tokens.input_ids, use_cache=False, **named
    ).last_hidden_state
    return states.flatten(0, 1)[tokens.before]


@torch.no_grad()
def check_model(model: PreTrainedModel, key: str) -> None:
    """Raise ConfigError for a model whose logits are not those of its last states and its head."""
    ids = torch.arange(6, device=model.device)[None] % model.config.vocab_size
    expected = model(input_ids=ids, use_cache=False).logits[0].float()
    states: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    head = Head.of(model)
    found = head.logits(states, head.low(states), expected.shape[-1])
    if (found - expected).norm() > tolerance(states) * expected.norm():
        raise ConfigError(
            f"{key}: models of type {model.config.model_type} make their logits in a way that is"
            " not supported here"
        )


def tolerance(states: Tensor) -> float:
    """Return how far two ways to compute the same may differ, relative to its norm."""
    return 1e-3 if states.dtype == torch.float32 else 2e-2


@torch.no_grad()
def can_share(model: PreTrainedModel, pad: int) -> bool:
    """Tell whether completions may share their prompt: by trying, for models differ in masks."""
    prompt = [pad] * 3
    group = [Sequence([*prompt, *range(k, k + 4)], 3) for k in range(3)]
    if model.config._attn_implementation not in ("sdpa", "eager"):
        return False  # others take no masks of this kind
    training = model.training
    model.eval()
    try:
        alone, together = (
            completion_states(model, move_data_to_device(laid, model.device))
            for laid in (collate([group], pad, share) for share in (False, True))
        )
    except (TypeError, ValueError, RuntimeError):  # models that take no such mask or positions
        return False
    finally:
        model.train(training)
    return bool((alone - together).norm() <= tolerance(alone) * alone.norm())
