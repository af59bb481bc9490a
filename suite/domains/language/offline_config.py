"""Settings of the rows domain."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from suite.config.contracts import Card, DomainConfig
from suite.config.fields import ConfigError, key, section
from suite.domains.language.config import (
    EVAL_PART,
    Attention,
    EvalPart,
    LoraConfig,
    PretrainConfig,
    SmallModelConfig,
    check_dtype,
    check_installed,
    check_there,
    frozen_by,
    library_of,
)


@dataclass
class DataConfig:
    """The rows, and how their scores become labels."""

    path: str | None = key(
        None,
        "a .jsonl, .json or .parquet file, a folder of such files or that `datasets` saved, or a"
        " name on the hub; without one, judged completions of the built-in small model",
    )
    eval_path: str | None = key(
        None, "rows for evaluation, in the same formats; without them a share of the other rows"
    )
    split: str = key("train", "split of a folder or of a name on the hub")
    eval_split: str | None = key(
        None,
        "split of eval_path; by default the first of test, validation and `split` that there is,"
        " and never `split` of the same path",
    )
    skip_bad: bool = key(False, "skip rows that do not fit")
    scores: Literal["mean", "threshold", "ranks"] = key(
        "mean", "accept above the mean score of the prompt, by a threshold, or by rank"
    )
    threshold: float = key(0.0, "smallest accepted score with scores=threshold")
    top: int = key(1, "accepted completions of a prompt with scores=ranks", at_least=0)
    bottom: int = key(1, "rejected completions of a prompt with scores=ranks", at_least=0)
    held_out: float = key(
        0.05,
        "share of the prompts held out for evaluation; 0 evaluates on the training rows",
        at_least=0,
        below=1,
    )

    def files(self) -> dict[str, str]:
        """Return the paths of the files to read, by key."""
        paths = {"path": self.path, "eval_path": self.eval_path}
        return {name: path for name, path in paths.items() if path is not None}

    def splits(self, name: str) -> list[str]:
        """Return the splits from which the path of a key is read: the first that there is."""
        if name == "path":
            return [self.split]
        if self.eval_split is not None:
            return [self.eval_split]
        other = ["test", "validation"]
        if self.eval_path == self.path:
            return [split for split in other if split != self.split]
        return [*other, *([self.split] if self.split not in other else [])]


@dataclass
class BuiltinConfig:
    """The built-in small model and its judged completions, for data.path=null."""

    digits: int = key(2, "largest number of digits of an operand", at_least=1, at_most=9)
    prompts: int = key(1024, "prompts", at_least=1)
    samples: int = key(4, "completions per prompt", at_least=1)
    only_rejected: bool = key(
        False,
        "rows of wrong completions only; evaluated are the completions of held-out prompts, where"
        " right ones have label 0",
    )
    model: SmallModelConfig = section(SmallModelConfig, "the model's architecture")
    pretrain: PretrainConfig = section(PretrainConfig, "pre-training of the model")


@dataclass
class RowsConfig(DomainConfig):
    """Rows of prompts, completions and feedback on them."""

    implementation: ClassVar[str] = "suite.domains.language.offline:Rows"
    batch_size_key: ClassVar[str | None] = "batch_size"
    shardable: ClassVar[bool] = True
    revision: ClassVar[int] = 2
    name: Literal["rows"] = key("rows", "this domain")
    data: DataConfig = section(DataConfig, "the rows")
    model: str | None = key(
        None, "a folder with model and tokenizer, or a name on the hub; by default the built-in one"
    )
    builtin: BuiltinConfig = section(BuiltinConfig, "the built-in data, for data.path=null")
    lora: LoraConfig = section(LoraConfig, "adapters")
    batch_size: int = key(
        8, "groups per batch: rows, or prompts with several completions", at_least=1
    )
    tokens: int = key(
        0, "largest number of tokens of a batch, with padding; 0 sets no limit", at_least=0
    )
    max_length: int = key(1024, "tokens of prompt and completion together", at_least=2)
    eval_rows: int = key(256, "held-out rows of an evaluation", at_least=1)
    eval_part: EvalPart = key("all", EVAL_PART)
    dtype: Literal["float32", "bfloat16"] = key("float32", "type of untrained weights")
    attention: Attention = key("default", "implementation; `default` is that of transformers")
    gradient_checkpointing: bool = key(False, "recompute activations rather than store them")

    @property
    def task(self) -> str:
        """The name of this problem in reports."""
        return "arithmetic-rows" if self.data.path is None else Path(self.data.path).stem

    def check(self) -> None:
        """Raise ConfigError where keys do not fit each other."""
        if self.data.path is not None and self.model is None:
            raise ConfigError(
                "domain.model must be a folder or a name on the hub with domain.data.path, found"
                " nothing"
            )
        check_dtype(self.dtype, self.lora)
        has_file = self.data.eval_path or (self.data.path is None and self.builtin.only_rejected)
        if self.eval_part != "all" and not self.data.held_out and not has_file:
            raise ConfigError(
                f"domain.eval_part={self.eval_part} divides held-out prompts, and"
                " domain.data.held_out=0 holds none out; allowed are a share above 0, and"
                " domain.eval_part=all"
            )

    def check_machine(self) -> None:
        """Raise ConfigError where this machine lacks what the run needs."""
        check_installed(self.data.path, self.lora)
        for name, path in self.data.files().items():
            check_there(f"domain.data.{name}", path)

    def why_reference_is_frozen(self) -> str | None:
        """With adapters the reference is the model without them."""
        return frozen_by(self.lora)

    def inputs(self) -> dict[str, str]:
        """Name the rows and the model."""
        files = {f"data.{name}": path for name, path in self.data.files().items()}
        return files | ({} if self.model is None else {"model": self.model})

    def card(self) -> Card:
        """Say which rows taught the model."""
        path = self.data.path
        data = f"rows of `{path}`" if path else f"{self.name}: {self.task}"
        return Card(data, self.model, library_of(self.lora))
