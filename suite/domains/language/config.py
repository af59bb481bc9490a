"""Settings that both domains of language models share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from suite.config.fields import ConfigError, key

Attention = Literal["default", "sdpa", "eager", "flash_attention_2"]
EvalPart = Literal["all", "tuning", "report"]
EVAL_PART = (
    "held-out prompts of evaluations: all, or one of two halves that never meet, to choose settings"
    " on `tuning` and to measure them on `report`"
)


@dataclass
class SmallModelConfig:
    """The small Llama that is pre-trained as the reference."""

    hidden_size: int = key(96, "width of the small model", at_least=8)
    layers: int = key(2, "transformer blocks of the small model", at_least=1)
    heads: int = key(4, "attention heads of the small model", at_least=1)


@dataclass
class LoraConfig:
    """Low-rank adapters in place of all weights."""

    rank: int = key(0, "rank of the adapters; 0 trains all weights", at_least=0)
    alpha: float = key(32.0, "the scale of the adapters is alpha / rank", above=0)
    head: bool = key(False, "whether the last layer has an adapter")
    merge: bool = key(False, "write the whole trained model, with adapters merged into its weights")
    merged_dtype: Literal["loaded", "float32"] = key(
        "loaded", "type of the merged weights; `loaded` is domain.dtype, which may round"
    )


@dataclass
class PretrainConfig:
    """Supervised pre-training of the reference, whose result is cached."""

    target_accuracy: float = key(
        0.38, "stop at this mean score of samples on held-out prompts", above=0, at_most=1
    )
    max_steps: int = key(4000, "fail after this many steps", at_least=1)
    batch_size: int = key(256, "demonstrations per step", at_least=1)
    lr: float = key(3e-3, "learning rate", above=0)
    check_every: int = key(50, "steps between two measurements of the score", at_least=1)
    seed: int = key(0, "seed of the reference; independent of the key `seed`", at_least=0)


def frozen_by(lora: LoraConfig) -> str | None:
    """Name the setting with which the reference must be frozen, and why; None without adapters."""
    if not lora.rank:
        return None
    return "domain.lora.rank above 0, where the reference is the model without its adapters"


def library_of(lora: LoraConfig) -> str:
    """Return the library that loads what is exported."""
    return "peft" if lora.rank and not lora.merge else "transformers"


def check_dtype(dtype: str, lora: LoraConfig) -> None:
    """Raise ConfigError where trained weights would be held in bfloat16."""
    if dtype == "bfloat16" and not lora.rank:
        raise ConfigError(
            "domain.dtype=bfloat16 is for weights that are not trained (domain.lora.rank above"
            " 0); trainer.precision=bf16-mixed computes in bfloat16"
        )


def check_there(name: str, path: str | None) -> None:
    """Raise ConfigError where a path that cannot be a name on the hub does not exist."""
    looks_local = path is not None and path.endswith((".jsonl", ".json", ".parquet"))
    if (
        path is not None
        and (looks_local or path.startswith((".", "/")))
        and not Path(path).exists()
    ):
        raise ConfigError(f"{name}={path}: no such file or folder")


def check_installed(path: str | None, lora: LoraConfig) -> None:
    """Raise ConfigError where reading a path or training adapters needs what is not installed."""
    from importlib.util import find_spec

    needed = {"transformers": True, "tokenizers": True, "peft": lora.rank > 0}
    needed["datasets"] = path is not None and not path.endswith((".jsonl", ".json"))
    for name, wanted in needed.items():
        if wanted and find_spec(name) is None:
            raise ConfigError(f"{name} is not installed: pip install 'pmpo-suite[language]'")
