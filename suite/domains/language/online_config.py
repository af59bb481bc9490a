"""Settings of the language-model domain."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from suite.config.contracts import Card, DomainConfig
from suite.config.fields import ConfigError, key, section
from suite.domains.language.config import (
    Attention,
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
class ModelConfig(SmallModelConfig):
    """A model that is there, or else the small one."""

    path: str | None = key(None, "a folder or name on the hub, in place of the small one")


@dataclass
class LabelRuleConfig:
    """What a judge's scores mean."""

    by: Literal["threshold", "ranks", "mean"] = key(
        "threshold", "accepted from a threshold on, or by rank among, or above the mean of a prompt"
    )
    threshold: float = key(0.5, "accepted from this score on, where by=threshold")
    top: int = key(2, "completions of a prompt that are accepted, where by=ranks", at_least=0)
    bottom: int = key(2, "those that are rejected, where by=ranks", at_least=0)


@dataclass
class RewardConfig:
    """The reward model that is trained here, where judge=learned."""

    completions: int = key(
        1024, "scored completions of the reference that it learns from", at_least=1
    )
    noise: float = key(0.1, "standard deviation of the error of their scores", at_least=0)
    steps: int = key(400, "steps", at_least=1)
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
        None, "where task=prompts: rows with a prompt, in a form that the domain rows reads"
    )
    max_new_tokens: int = key(128, "longest completion where task=prompts", at_least=1)
    judge: str = key(
        "exact",
        "the task's own rule (`exact`), a reward model that is trained here (`learned`), a function"
        " (`package.module:name`), or the folder or hub name of a reward model",
    )
    labels: LabelRuleConfig = section(LabelRuleConfig, "what scores mean")
    reward: RewardConfig = section(RewardConfig, "the reward model that is trained here")
    prompts: int = key(64, "prompts per batch", at_least=1)
    samples: int = key(4, "completions per prompt, K", at_least=1)
    temperature: float = key(
        1.0, "of the distributions that are sampled from and compared, π_ref and π alike", above=0
    )
    slots: int = key(512, "completions that are sampled at a time", at_least=1)
    ahead: int = key(
        1, "batches that are sampled together, before the reference may follow again", at_least=1
    )
    eval_prompts: int = key(512, "held-out prompts of an evaluation", at_least=1)
    share_prompts: int = key(
        512, "training prompts that measure the reference's share of accepted samples", at_least=1
    )
    model: ModelConfig = section(ModelConfig, "the policy")
    pretrain: PretrainConfig = section(PretrainConfig, "how the small one is made")
    lora: LoraConfig = section(LoraConfig, "adapters")
    dtype: Literal["float32", "bfloat16"] = key("float32", "of the weights that are not trained")
    attention: Attention = key("default", "implementation; transformers chooses the default")
    gradient_checkpointing: bool = key(False, "compute activations again rather than keep them")

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

    def samples_per_context(self) -> int:
        """Return K."""
        return self.samples

    def why_reference_is_frozen(self) -> str | None:
        """With adapters the reference is the model without them."""
        return frozen_by(self.lora)

    def card(self) -> Card:
        """Say which prompts and which judge taught the model."""
        prompts = f"prompts of `{self.prompts_path}`" if self.prompts_path else None
        data = f"{prompts or f'{self.name}: {self.task}'}, judged by `{self.judge}`"
        return Card(data, self.model.path, library_of(self.lora))
