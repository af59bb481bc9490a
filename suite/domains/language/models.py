"""Models from folders or the hub: all weights and a frozen copy, or adapters over shared ones."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from suite.config.fields import ConfigError
from suite.domains.language.config import Attention, LoraConfig
from suite.system import distributed


class Pair(NamedTuple):
    """The policy and its reference; with adapters the reference is the policy without them."""

    policy: nn.Module
    reference: nn.Module
    tokenizer: PreTrainedTokenizerBase


class LoadSettings(Protocol):
    """The keys that say how a model is loaded."""

    lora: LoraConfig
    dtype: Literal["float32", "bfloat16"]
    attention: Attention
    gradient_checkpointing: bool


class Networks(nn.Module):
    """Policy and reference as one module, for functions that need both.

    Where the module is sharded over ranks, embeddings and heads are whole only during a call.
    """

    def __init__(self, policy: nn.Module, reference: nn.Module) -> None:
        super().__init__()
        self.policy = policy
        self.reference = reference

    @override
    def forward(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call a function while all weights are whole, and return its result."""
        return function(*arguments, **named)


def load_pair(name: str, settings: LoadSettings, key: str, device: torch.device) -> Pair:
    """Load model and tokenizer without running code of theirs; raises ConfigError."""
    with loading(f"{key}={name}", name):
        tokenizer = AutoTokenizer.from_pretrained(name)
        chosen = (
            {} if settings.attention == "default" else {"attn_implementation": settings.attention}
        )
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype=getattr(torch, settings.dtype), **chosen
        ).to(device)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id or 0
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    if settings.lora.rank:
        return Pair(with_adapters(model, settings.lora), nn.Module(), tokenizer)
    reference = copy.deepcopy(model).requires_grad_(False).eval()
    return Pair(model, reference, tokenizer)


def with_adapters(model: PreTrainedModel, lora: LoraConfig) -> nn.Module:
    """Return the model with low-rank adapters on all linear layers, on the head where chosen."""
    import peft

    # Without gradients of the inputs, checkpointed blocks would compute none.
    model.enable_input_require_grads()  # type: ignore[operator]
    adapters = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=linear_layers(model, lora.head),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        adapted: nn.Module = peft.get_peft_model(model, adapters)
    return adapted


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
        training = policy.training
        policy.eval()
        with policy.disable_adapter():
            yield causal_lm(policy)
        policy.train(training)


def linear_layers(model: PreTrainedModel, head: bool) -> list[str]:
    """Return the names of the layers that get adapters."""
    output = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and (head or module is not output)
    ]


@contextmanager
def loading(setting: str, name: str) -> Iterator[None]:
    """Turn any error while a folder or a name on the hub is loaded into a ConfigError."""
    try:
        yield
    except Exception as error:  # of the file system, the hub, or the configuration in there
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        local = Path(name).is_dir()
        kind = "folder cannot be loaded" if local else "is no folder here, and no name"
        hint = "" if local else " that the hub could serve; `hf download` fetches one"
        raise ConfigError(f"{setting}: {kind}{hint}: {message}") from None


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


def save_pair(pair: Pair, folder: Path, merge: bool) -> None:
    """Write model (or adapter) and tokenizer in the format of transformers and peft.

    All ranks must call it where the model is sharded over them; rank 0 writes.
    """
    policy: Any = pair.policy
    if merge and hasattr(policy, "merge_and_unload"):
        policy = copy.deepcopy(policy).merge_and_unload()
    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(policy, options=whole) if distributed.is_sharded(policy) else None
    if distributed.rank() == 0:
        policy.save_pretrained(folder, state_dict=state)
        pair.tokenizer.save_pretrained(folder)
