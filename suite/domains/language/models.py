"""Models from folders or the hub: all weights and a frozen copy, or adapters over shared ones."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from suite.config.fields import ConfigError
from suite.domains.language.config import Attention, LoraConfig
from suite.domains.language.loading import (
    adapter_base,
    check_tokenizer,
    language_part,
    load_network,
    load_tokenizer,
)
from suite.domains.language.merging import merged
from suite.system import distributed

logger = logging.getLogger(__name__)


class Pair(NamedTuple):
    """The policy and its reference; with adapters the reference is the policy without them."""

    policy: nn.Module
    reference: nn.Module
    tokenizer: PreTrainedTokenizerBase
    written_whole: bool = False
    """Whether adapters are merged into what is written."""


class LoadSettings(Protocol):
    """The keys that say how a model is loaded."""

    lora: LoraConfig
    dtype: Literal["float32", "bfloat16"]
    attention: Attention
    gradient_checkpointing: bool


class Networks(nn.Module):
    """Policy and reference as one module, for functions that need both.

    Where the module is sharded over ranks, embeddings and heads are whole only during a call.
    Sampling, evaluation and training compute in the same precision, as each is such a call.
    """

    def __init__(self, policy: nn.Module, reference: nn.Module, precision: str) -> None:
        super().__init__()
        self.policy = policy
        self.reference = reference
        self.mixed = precision == "bf16-mixed"

    @override
    def forward(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call a function while all weights are whole, and return its result."""
        if not self.mixed:
            return function(*arguments, **named)
        device = next(self.policy.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            return function(*arguments, **named)


def load_pair(name: str, settings: LoadSettings, key: str, device: torch.device) -> Pair:
    """Load model and tokenizer without running code of theirs; raises ConfigError.

    Both networks stay in evaluation mode, in training too: with dropout, policy and reference
    would differ before the first step.
    """
    tokenizer = load_tokenizer(name, key)
    chosen = {} if settings.attention == "default" else {"attn_implementation": settings.attention}
    model = load_network(
        AutoModelForCausalLM, name, key, dtype=getattr(torch, settings.dtype), **chosen
    )
    check_tokenizer(tokenizer, model, f"{key}={name}")
    model.to(device).eval()  # type: ignore[arg-type]
    freeze_other_inputs(model)
    if settings.gradient_checkpointing:
        checkpoint_activations(model, key)
    written_whole = settings.lora.merge or adapter_base(name, key) is not None
    if settings.lora.rank:
        adapted = with_adapters(model, settings.lora, key)
        return Pair(adapted.eval(), nn.Module(), tokenizer, written_whole)
    reference = copy.deepcopy(model).requires_grad_(False).eval()
    return Pair(model, reference, tokenizer, written_whole)


def freeze_other_inputs(model: PreTrainedModel) -> None:
    """Freeze the weights that text never reaches, such as an encoder of images."""
    if language_part(model) is not model:
        read = {*language_part(model).parameters()}
        head = model.get_output_embeddings()
        read |= set() if head is None else {*head.parameters()}
        for parameter in model.parameters():
            parameter.requires_grad_(parameter in read)


def checkpoint_activations(model: PreTrainedModel, key: str) -> None:
    """Prepare a model for recomputing its activations, which `recomputing` switches on."""
    try:
        model.activation_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        raise ConfigError(
            f"domain.gradient_checkpointing must be false with {key} of type"
            f" {model.config.model_type}: {error}"
        ) from None
    for layer in checkpointed_layers(model):  # their own dropout would act in training mode
        for name, value in vars(layer).items():
            if "drop" in name and isinstance(value, float):
                setattr(layer, name, 0.0)


def checkpointed_layers(model: nn.Module) -> list[nn.Module]:
    """Return the modules that can recompute their activations."""
    return [m for m in model.modules() if getattr(m, "gradient_checkpointing", False) is True]


@contextmanager
def recomputing(model: nn.Module) -> Iterator[None]:
    """Run checkpointed layers, and nothing below them, in the training mode that they ask for."""
    layers = checkpointed_layers(model) if torch.is_grad_enabled() else []
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def with_adapters(model: PreTrainedModel, lora: LoraConfig, key: str) -> nn.Module:
    """Return the model with low-rank adapters on all linear layers, on the head where chosen."""
    import peft

    log_layers_without_adapters(model)
    adapters = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=linear_layers(model, lora.head),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(0)
        # A head that shares the embedding's weight gets its own where the adapter is merged.
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        try:
            adapted: nn.Module = peft.get_peft_model(model, adapters)
        except ValueError as error:
            raise ConfigError(
                f"domain.lora.rank must be 0 with {key} of type {model.config.model_type}: {error}"
            ) from None
    return adapted


def log_layers_without_adapters(model: PreTrainedModel) -> None:
    """Say which experts get no adapter: their weights are no linear layers."""
    experts = [name for name, p in language_part(model).named_parameters() if "experts" in name]
    linear = tuple(f"{name}." for name, m in language_part(model).named_modules()
                   if isinstance(m, nn.Linear | Conv1D))  # fmt: skip
    stacked = [name for name in experts if not name.startswith(linear)]
    if stacked:
        logger.info(
            "domain.lora: adapters reach linear layers alone; %s weights of experts, such as %s,"
            " stay as they are",
            *(len(stacked), stacked[0]),
        )


def causal_lm(model: nn.Module) -> PreTrainedModel:
    """Return the causal language model without peft's wrapper, with its adapters in place."""
    adapted: Any = model
    base = adapted.get_base_model() if hasattr(model, "get_base_model") else model
    assert isinstance(base, PreTrainedModel)
    return base


@contextmanager
def as_reference(pair: Pair) -> Iterator[PreTrainedModel]:
    """Yield the reference, without gradients: the frozen copy, or the policy without adapters."""
    policy: Any = pair.policy
    with torch.no_grad():
        if not hasattr(policy, "disable_adapter"):
            yield causal_lm(pair.reference)
            return
        with policy.disable_adapter():
            yield causal_lm(policy)


def linear_layers(model: PreTrainedModel, head: bool) -> list[str]:
    """Return the names of the layers that get adapters."""
    output, read = model.get_output_embeddings(), {*language_part(model).modules()}
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and (head if module is output else module in read)
    ]


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that end a completion; raises ConfigError where there are none."""
    ends: set[int] = set()
    generation = getattr(model, "generation_config", None)
    for source in (model.config, generation, tokenizer):
        value = getattr(source, "eos_token_id", None)
        ends |= set(value if isinstance(value, list) else [] if value is None else [value])
    if not ends:
        raise ConfigError("domain.model: neither model nor tokenizer has an end token")
    return sorted(ends)


def save_pair(pair: Pair, folder: Path, lora: LoraConfig) -> None:
    """Write model (or adapter) and tokenizer in the format of transformers and peft.

    What began as an adapter is written whole, as a second adapter would be read without the first.
    All ranks must call it where the model is sharded over them; rank 0 writes.
    """
    policy: Any = pair.policy
    if pair.written_whole and hasattr(policy, "merge_and_unload"):
        policy = copy.deepcopy(policy)
        if lora.merged_dtype == "float32":
            policy = policy.float()
        hint = "domain.lora.merged_dtype=float32 writes it without this loss"
        policy = merged(policy, "domain.lora.merge", hint)
    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(policy, options=whole) if distributed.is_sharded(policy) else None
    if distributed.rank() == 0:
        # The embedding is never changed by adapters.
        kept = {"save_embedding_layers": False} if hasattr(policy, "disable_adapter") else {}
        policy.save_pretrained(folder, state_dict=state, **kept)
        pair.tokenizer.save_pretrained(folder)
