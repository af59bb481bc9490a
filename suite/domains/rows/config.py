"""Settings of the rows domain."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from suite.domains.lm.config import ModelConfig, PretrainConfig
from suite.keys import ConfigError, key, section


@dataclass
class DataConfig:
    """Which rows, and what their scores mean."""

    path: str | None = key(
        None,
        "a .jsonl or .parquet file, a folder that `datasets` saved, or a name on the hub; without"
        " one, judged completions of the small model that is made here",
    )
    split: str = key("train", "split of a folder or of a name on the hub")
    skip_bad: bool = key(False, "go on without rows that do not fit")
    scores: Literal["mean", "threshold", "ranks"] = key(
        "mean", "scores are accepted above their prompt's mean, above a threshold, or by rank"
    )
    threshold: float = key(0.0, "accepted from this score on, where scores=threshold")
    top: int = key(1, "completions of a prompt that are accepted, where scores=ranks", at_least=0)
    bottom: int = key(1, "those that are rejected, where scores=ranks", at_least=0)
    held_out: float = key(
        0.05,
        "share of the prompts kept for evaluation; with 0 the rows of training are evaluated",
        at_least=0,
        below=1,
    )


@dataclass
class LoraConfig:
    """Low-rank adapters in place of all weights."""

    rank: int = key(0, "rank of the adapters; 0 trains all weights", at_least=0)
    alpha: float = key(32.0, "their scale is alpha / rank", above=0)


@dataclass
class BuiltinConfig:
    """The small model and its judged completions, made where no path is given."""

    digits: int = key(2, "largest number of digits of an operand", at_least=1, at_most=9)
    prompts: int = key(1024, "prompts", at_least=1)
    samples: int = key(4, "completions per prompt", at_least=1)
    model: ModelConfig = section(ModelConfig, "the model's architecture")
    pretrain: PretrainConfig = section(PretrainConfig, "how the model is made")


@dataclass
class RowsConfig:
    """Rows of prompts, completions and what somebody thought of them."""

    gaussian: ClassVar[bool] = False
    reference_must_follow: ClassVar[bool] = False
    groups_key: ClassVar[str] = "batch_size"  # how many groups a batch has, which ranks share
    spreadable: ClassVar[bool] = False  # whether networks are only called as a whole
    name: Literal["rows"] = key("rows", "this domain")
    data: DataConfig = section(DataConfig, "the rows")
    model: str | None = key(
        None, "a folder with model and tokenizer, or a name on the hub; the small one unless given"
    )
    builtin: BuiltinConfig = section(BuiltinConfig, "what is made where no path is given")
    lora: LoraConfig = section(LoraConfig, "adapters")
    batch_size: int = key(
        8, "groups per batch: rows, or prompts with several completions", at_least=1
    )
    max_length: int = key(1024, "tokens of prompt and completion together", at_least=2)
    eval_rows: int = key(256, "held-out rows of an evaluation", at_least=1)
    dtype: Literal["float32", "bfloat16"] = key("float32", "of the weights that are not trained")
    gradient_checkpointing: bool = key(False, "compute activations again rather than keep them")

    @property
    def task(self) -> str:
        """What the report calls this problem."""
        return "arithmetic-rows" if self.data.path is None else Path(self.data.path).stem

    def check(self) -> None:
        """Raise ConfigError where keys do not fit each other."""
        if self.data.path is not None and self.model is None:
            raise ConfigError(
                "domain.model must be a folder or a name on the hub with domain.data.path, found"
                " nothing"
            )
        if self.dtype == "bfloat16" and not self.lora.rank:
            raise ConfigError(
                "domain.dtype=bfloat16 is for weights that are not trained (domain.lora.rank above"
                " 0); trainer.precision=bf16-mixed computes in bfloat16"
            )

    def check_machine(self) -> None:
        """Raise ConfigError where this machine lacks what the run needs."""
        path = self.data.path
        looks_local = path is not None and (
            path.endswith((".jsonl", ".parquet")) or path.startswith((".", "/"))
        )
        if looks_local and not Path(str(path)).exists():
            raise ConfigError(f"domain.data.path={path}: no such file or folder")
        needed = {"datasets": path is not None and not path.endswith(".jsonl")}
        needed["peft"] = self.lora.rank > 0
        for name, wanted in needed.items():
            if wanted and find_spec(name) is None:
                raise ConfigError(f"{name} is not installed: pip install 'pmpo-suite[rows]'")

    def accepted_mean(self) -> float | None:
        """Return nothing: for language only the bound of theory §2 is known."""
        return None
