"""Models from folders or the hub: all weights and a frozen copy, or adapters over shared ones."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from suite.domains.lm.head import Head
from suite.domains.rows.config import RowsConfig
from suite.domains.rows.tokens import Tokens
from suite.keys import ConfigError


class Pair(NamedTuple):
    """The policy and its reference; with adapters the reference is the policy without them."""

    policy: nn.Module
    reference: nn.Module
    tokenizer: PreTrainedTokenizerBase


def load_pair(name: str, settings: RowsConfig) -> Pair:
    """Load model and tokenizer; no code that comes with them is run. Raises ConfigError."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        dtype = getattr(torch, settings.dtype)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
    except Exception as error:  # of the file system, the hub, or the configuration in there
        what = (str(error).strip() or type(error).__name__).splitlines()[0]
        kind = (
            "folder cannot be loaded" if Path(name).is_dir() else "is no folder here, and no name"
        )
        hint = "" if Path(name).is_dir() else " that the hub could serve; `hf download` fetches one"
        raise ConfigError(f"domain.model={name}: {kind}{hint}: {what}") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id or 0
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if settings.lora.rank:
        return Pair(with_adapters(model, settings), nn.Module(), tokenizer)
    reference = copy.deepcopy(model).requires_grad_(False).eval()
    return Pair(model, reference, tokenizer)


def with_adapters(model: PreTrainedModel, settings: RowsConfig) -> nn.Module:
    """Return the model with low-rank adapters on all linear layers but the head."""
    import peft

    # Or checkpointed blocks would see nothing to learn.
    model.enable_input_require_grads()  # type: ignore[operator]
    plan = peft.LoraConfig(
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        adapted: nn.Module = peft.get_peft_model(model, plan)
    return adapted


def inner(model: nn.Module) -> PreTrainedModel:
    """Return the causal language model itself, with its adapters in place."""
    adapted: Any = model
    found = adapted.get_base_model() if hasattr(model, "get_base_model") else model
    assert isinstance(found, PreTrainedModel)
    return found


@contextmanager
def as_reference(pair: Pair) -> Iterator[PreTrainedModel]:
    """Yield the reference, without gradients: the frozen copy, or the policy without adapters."""
    policy: Any = pair.policy
    with torch.no_grad():
        if not hasattr(policy, "disable_adapter"):
            yield inner(pair.reference)
            return
        training = policy.training
        policy.eval()
        with policy.disable_adapter():
            yield inner(policy)
        policy.train(training)


def completion_states(model: PreTrainedModel, tokens: Tokens) -> Tensor:
    """Return the final state before every completion token, [T, H]; nothing else is projected."""
    body: Any = model.base_model
    states = body(
        input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, use_cache=False
    ).last_hidden_state
    found: Tensor = states[:, :-1][tokens.completion_mask[:, 1:]]
    return found


def head_of(model: PreTrainedModel) -> Head:
    """Return the head; raises ConfigError where adapters sit on it."""
    layer: Any = model.get_output_embeddings()
    if hasattr(layer, "base_layer"):
        raise ConfigError("adapters on the head itself are not supported")
    return Head.of(model)
