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
from suite.domains.language.head_extras import Extra
from suite.domains.language.models import Networks, Pair, as_reference, causal_lm, recomputing
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
    extra: tuple[Extra, ...] = (),
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
        with recomputing(model):
            states, head = completion_states(model, tokens), Head.of(model, temperature)
        per_token = token_statistics(
            *(states, head, reference_states, reference_head, tokens.targets),
            divergence=divergence,
            extra=extra,
        )
    empty = per_token.logp.new_zeros(count)
    sums = per_token.map(lambda part: empty.index_add(0, tokens.owner, part))
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
    """Raise ConfigError where a model cannot be trained here, which a few tokens show.

    `Head` must reproduce its logits, and no token may see those after it, nor the padding there.
    """
    vocabulary = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    ids = torch.arange(6, device=model.device)[None] % vocabulary
    kind = f"{key}: models of type {model.config.model_type}"
    try:
        expected = model(input_ids=ids, use_cache=False).logits[0].float()
        states, longer = (
            model.base_model(input_ids=x, use_cache=False).last_hidden_state[0]
            for x in (ids, torch.cat([ids, ids.flip(1)], 1))
        )
        head = Head.of(model)
        logits = head.logits(states, head.low(states), expected.shape[-1])
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{kind} do not read plain tokens as is needed here: {message}") from None
    if not close(longer[: len(states)], states):
        raise ConfigError(
            f"{kind} must be causal, but their states depend on later tokens; a model that"
            " generates text from left to right can be trained"
        )
    if logits.shape != expected.shape or not close(logits, expected):
        raise ConfigError(f"{kind} make their logits in a way that is not supported here")


def close(found: Tensor, expected: Tensor) -> bool:
    """Tell whether two ways to compute the same tensor agree; NaN agrees with nothing."""
    return bool((found - expected).norm() <= tolerance(expected) * expected.norm())


@torch.no_grad()
def check_start(networks: Networks, pair: Pair, tokens: Tokens, count: int, key: str) -> None:
    """Raise ConfigError where policy and reference differ before the first step.

    Both are the same model then, so that the KL is 0 up to rounding.
    """
    sums, per_token = networks(compare, pair, tokens, count)
    raise_unless_equal(sums, per_token, causal_lm(pair.policy), networks.mixed, key)


def raise_unless_equal(
    sums: Statistics, per_token: TokenFeedback, model: PreTrainedModel, mixed: bool, key: str
) -> None:
    """Raise ConfigError where the KL or a token's log π is not that of equal models."""
    if not len(per_token.logp):
        return
    kl = sums.kl.sum().item() / len(per_token.logp)
    change = (per_token.logp - per_token.reference_logp).abs().max().item()
    limit = 1e-3 if model.dtype == torch.float32 and not mixed else 5e-2
    if not (abs(kl) <= limit and change <= 10 * limit):
        raise ConfigError(
            f"{key}: policy and reference must be equal before the first step, found a KL of"
            f" {kl:.3g} per token and log π changed by up to {change:.3g}; the causes are dropout"
            " or noise that acts in evaluation mode, or an adapter that one of them lacks"
        )


def tolerance(states: Tensor) -> float:
    """Return the largest relative difference between two ways to compute the same tensor."""
    return 1e-3 if states.dtype == torch.float32 else 2e-2


@torch.no_grad()
def can_share_prompts(model: PreTrainedModel, pad: int) -> bool:
    """Tell, by trying, whether a model's completions may share their prompt; masks differ."""
    prompt = [pad] * 3
    vocabulary = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    group = [Sequence([*prompt, *(i % vocabulary for i in range(k, k + 4))], 3) for k in range(3)]
    if model.config._attn_implementation not in ("sdpa", "eager"):
        return False  # other implementations take no such mask
    try:
        alone, together = (
            completion_states(model, move_data_to_device(packed, model.device))
            for packed in (pack([group], pad, shared_prompts) for shared_prompts in (False, True))
        )
    except Exception:  # models that take no such mask or positions, each with an error of its own
        return False
    return close(together, alone)
