"""Settings of the language-model domain."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from suite.keys import ConfigError, key, section


@dataclass
class ModelConfig:
    """The small Llama that is trained here as the reference."""

    hidden_size: int = key(96, "width", at_least=8)
    layers: int = key(2, "transformer blocks", at_least=1)
    heads: int = key(4, "attention heads", at_least=1)


@dataclass
class PretrainConfig:
    """Supervised pre-training of the reference; done once, then cached."""

    target_accuracy: float = key(
        0.38, "stop at this sampled accuracy on held-out prompts", above=0, at_most=1
    )
    max_steps: int = key(4000, "give up after this many steps", at_least=1)
    batch_size: int = key(256, "demonstrations per step", at_least=1)
    lr: float = key(3e-3, "learning rate", above=0)
    check_every: int = key(50, "steps between two measurements of the accuracy", at_least=1)
    seed: int = key(0, "seed of the reference; independent of the run's seed", at_least=0)


@dataclass
class LMConfig:
    """Prompts, completions sampled from the reference, and a judge."""

    gaussian: ClassVar[bool] = False
    reference_must_follow: ClassVar[bool] = False
    groups_key: ClassVar[str] = "prompts"  # how many groups a batch has, which ranks share
    spreadable: ClassVar[bool] = True  # whether networks are only called as a whole
    name: Literal["lm"] = key("lm", "this domain")
    task: Literal["arithmetic"] = key("arithmetic", "language task")
    digits: int = key(2, "largest number of digits of an operand", at_least=1, at_most=9)
    prompts: int = key(64, "prompts per batch", at_least=1)
    samples: int = key(4, "completions per prompt, K", at_least=1)
    eval_prompts: int = key(512, "held-out prompts of an evaluation", at_least=1)
    share_prompts: int = key(
        512, "training prompts that measure the reference's share of accepted samples", at_least=1
    )
    model: ModelConfig = section(ModelConfig, "the policy's architecture")
    pretrain: PretrainConfig = section(PretrainConfig, "how the reference is made")

    def check(self) -> None:
        """Raise ConfigError where keys do not fit each other."""
        if self.model.hidden_size % self.model.heads:
            raise ConfigError(
                f"domain.model.hidden_size must be a multiple of domain.model.heads="
                f"{self.model.heads}, found {self.model.hidden_size}"
            )

    def check_machine(self) -> None:
        """Need nothing that is not part of every installation."""

    def accepted_mean(self) -> float | None:
        """Return nothing: for language only the bound of theory §2 is known."""
        return None
