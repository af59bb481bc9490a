"""Settings of the language-model domain."""

from dataclasses import dataclass
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
from suite.domains.language.judge_function import import_judge, is_import_path


@dataclass
class ModelConfig(SmallModelConfig):
    """A model from a folder or the hub, or else the small one."""

    path: str | None = key(None, "folder or hub name of a model, in place of the small one")


@dataclass
class LabelRuleConfig:
    """How a judge's scores become labels."""

    by: Literal["threshold", "ranks", "mean"] = key(
        "threshold", "accept by a threshold, by rank within a prompt, or above the mean of a prompt"
    )
    threshold: float = key(0.5, "smallest accepted score with by=threshold")
    top: int = key(2, "accepted completions of a prompt with by=ranks", at_least=0)
    bottom: int = key(2, "rejected completions of a prompt with by=ranks", at_least=0)


@dataclass
class RewardConfig:
    """The reward model that is trained with judge=learned."""

    completions: int = key(
        1024, "scored completions of the reference in its training data", at_least=1
    )
    noise: float = key(0.1, "standard deviation of the noise in the scores", at_least=0)
    steps: int = key(400, "training steps", at_least=1)
    lr: float = key(1e-3, "learning rate", above=0)


@dataclass
class LMConfig(DomainConfig):
    """Prompts, completions sampled from the reference, and a judge."""

    implementation: ClassVar[str] = "suite.domains.language.online:LanguageModel"
    batch_size_key: ClassVar[str | None] = "prompts"
    shardable: ClassVar[bool] = True
    name: Literal["lm"] = key("lm", "this domain")
    task: str = key(
        "arithmetic",
        "language task: arithmetic, letters, `prompts` for those of a file, or a plug-in's",
        kind="task",
    )
    digits: int = key(2, "largest number of digits of an operand", at_least=1, at_most=9)
    prompts_path: str | None = key(
        None, "prompts of task=prompts: rows with a prompt, in a format of the domain rows"
    )
    max_new_tokens: int = key(128, "longest completion in tokens with task=prompts", at_least=1)
    judge: str = key(
        "exact",
        "the task's own rule (`exact`), a reward model trained by the suite (`learned`), a function"
        " of `prompts` and `completions` (`package.module:name`), or the folder or hub name of a"
        " reward model",
    )
    labels: LabelRuleConfig = section(LabelRuleConfig, "how scores become labels")
    reward: RewardConfig = section(RewardConfig, "the learned reward model")
    prompts: int = key(64, "prompts per batch", at_least=1)
    samples: int = key(4, "completions per prompt, K", at_least=1)
    temperature: float = key(
        1.0, "temperature of sampling, and of π_ref and π in all comparisons", above=0
    )
    slots: int = key(512, "completions that are sampled at a time", at_least=1)
    ahead: int = key(
        1,
        "batches that are sampled together; where the reference is updated meanwhile, the later"
        " ones were drawn from the one before",
        at_least=1,
    )
    eval_prompts: int = key(512, "held-out prompts of an evaluation", at_least=1)
    eval_part: EvalPart = key("all", EVAL_PART)
    eval_samples: int = key(
        4, "completions per held-out prompt of an evaluation, the n of pass@k", at_least=1
    )
    share_prompts: int = key(
        512, "training prompts of the initial estimate of the label shares", at_least=1
    )
    model: ModelConfig = section(ModelConfig, "the policy")
    pretrain: PretrainConfig = section(PretrainConfig, "pre-training of the small model")
    lora: LoraConfig = section(LoraConfig, "adapters")
    dtype: Literal["float32", "bfloat16"] = key("float32", "type of untrained weights")
    attention: Attention = key("default", "implementation; `default` is that of transformers")
    gradient_checkpointing: bool = key(False, "recompute activations rather than store them")

    def check(self) -> None:
        """Raise ConfigError where keys do not fit each other."""
        if self.model.hidden_size % self.model.heads:
            raise ConfigError(
                f"domain.model.hidden_size must be a multiple of domain.model.heads="
                f"{self.model.heads}, found {self.model.hidden_size}"
            )
        check_dtype(self.dtype, self.lora)
        labels = self.labels
        if labels.by == "ranks" and labels.top + labels.bottom > self.samples:
            raise ConfigError(
                "domain.labels.top + domain.labels.bottom must be at most domain.samples="
                f"{self.samples}, found {labels.top + labels.bottom}"
            )
        if self.task == "prompts":
            needed = {
                "domain.prompts_path": self.prompts_path,
                "domain.model.path": self.model.path,
                "domain.judge": None if self.judge in ("exact", "learned") else self.judge,
            }
            for name, value in needed.items():
                if value is None:
                    raise ConfigError(
                        f"{name} must say which with domain.task=prompts, found"
                        f" {self.judge if name == 'domain.judge' else 'nothing'}"
                    )

    def check_machine(self) -> None:
        """Raise ConfigError where this machine lacks what the run needs."""
        check_installed(self.prompts_path, self.lora)
        check_there("domain.prompts_path", self.prompts_path)
        if is_import_path(self.judge):
            import_judge(self.judge)

    def samples_per_context(self) -> int:
        """Return K."""
        return self.samples

    def why_reference_is_frozen(self) -> str | None:
        """With adapters the reference is the model without them."""
        return frozen_by(self.lora)

    def inputs(self) -> dict[str, str]:
        """Name the prompts, the model, and a judge that is a function or a model."""
        judge = None if self.judge in ("exact", "learned") else self.judge
        task = self.task if ":" in self.task else None
        given = {"prompts_path": self.prompts_path, "judge": judge, "task": task}
        given["model.path"] = self.model.path
        return {name: value for name, value in given.items() if value is not None}

    def card(self) -> Card:
        """Say which prompts and which judge taught the model."""
        prompts = f"prompts of `{self.prompts_path}`" if self.prompts_path else None
        data = f"{prompts or f'{self.name}: {self.task}'}, judged by `{self.judge}`"
        return Card(data, self.model.path, library_of(self.lora))
