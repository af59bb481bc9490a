"""The settings of a run as dataclasses."""

import shutil
from dataclasses import dataclass
from typing import Any, Literal

from omegaconf import MISSING

from suite.config.contracts import short_name
from suite.config.fields import ConfigError, check_ranges, is_folder_name, key, section
from suite.config.signature import sign


@dataclass
class OptimizerConfig:
    """AdamW with a linear warm-up and an optional linear decay."""

    lr: float = key(1e-3, "learning rate", above=0)
    weight_decay: float = key(0.0, "decoupled weight decay", at_least=0)
    beta2: float = key(0.999, "decay of the squared-gradient average", at_least=0, below=1)
    clip_norm: float | None = key(None, "largest norm of the gradient", above=0)
    warmup: int = key(0, "steps over which the learning rate rises linearly", at_least=0)
    decay: Literal["none", "linear"] = key("none", "fall of the learning rate to 0 at the end")


@dataclass
class ReferenceConfig:
    """How the reference follows the policy."""

    update: Literal["frozen", "copy", "average"] = key("frozen", "not, by copying, or slowly")
    every: int = key(50, "steps between copies, where update=copy", at_least=1)
    rate: float = key(0.01, "share taken per step, where update=average", above=0, at_most=1)


@dataclass
class TrainerConfig:
    """How long and on what a run trains."""

    steps: int = key(1000, "optimiser steps", at_least=1)
    accumulate: int = key(1, "batches per optimiser step", at_least=1)
    steps_per_call: int = key(
        1,
        "optimiser steps per call of Lightning, which costs half a millisecond; all other numbers"
        " of steps must be multiples of it",
        at_least=1,
    )
    eval_every: int = key(100, "steps between evaluations", at_least=1)
    log_every: int = key(10, "steps between rows of training metrics", at_least=1)
    checkpoint_every: int = key(100, "steps between checkpoints", at_least=1)
    threads: int = key(
        1, "CPU threads of the run; results are bit-identical for one value", at_least=1
    )
    max_kl: float | None = key(
        None, "end at the first evaluation whose KL to the reference is above this", above=0
    )
    accelerator: Literal["auto", "cpu", "gpu"] = key("auto", "`auto` takes a GPU if there is one")
    devices: int = key(
        1, "GPUs per node that share every batch, or processes on the CPU", at_least=1
    )
    num_nodes: int = key(1, "nodes that share every batch", at_least=1)
    strategy: Literal["ddp", "fsdp"] = key(
        "ddp", "with several devices: a copy of the networks on each, or a part of them"
    )
    compile: bool = key(
        False,
        "compile a step's mathematics: costs half a minute once and pays in long runs of small"
        " networks; on the CPU it needs a C++ compiler",
    )
    precision: Literal["32-true", "bf16-mixed"] = key("32-true", "of the policy's arithmetic")

    @property
    def ranks(self) -> int:
        """How many processes work on the run together."""
        return self.devices * self.num_nodes

    def check(self) -> None:
        """Raise ConfigError where keys do not fit each other."""
        for name in ("steps", "eval_every", "log_every", "checkpoint_every"):
            if getattr(self, name) % self.steps_per_call:
                raise ConfigError(
                    f"trainer.{name} must be a multiple of trainer.steps_per_call="
                    f"{self.steps_per_call}, found {getattr(self, name)}"
                )

    def check_machine(self) -> None:
        """Raise ConfigError where this machine has not what training needs."""
        if self.compile and not any(map(shutil.which, ("c++", "g++", "clang++"))):
            raise ConfigError("trainer.compile=true needs a C++ compiler such as g++, found none")


@dataclass
class LabelNoiseConfig:
    """How many labels the learner gets, and how good they are."""

    keep: float = key(
        1.0,
        "share of the labels that is kept; the other samples only anchor, and with 0 all do",
        at_least=0,
        at_most=1,
    )
    flip: float = key(0.0, "share of the labels that is swapped", at_least=0, at_most=1)
    ratio: float | None = key(
        None, "accepted to rejected labels: the more frequent kind is thinned out", above=0
    )

    @property
    def all_true(self) -> bool:
        """Whether the learner gets every label as it is."""
        return self == LabelNoiseConfig()


@dataclass
class LoggingConfig:
    """Where metrics go besides the run folder."""

    wandb: Literal["disabled", "offline", "online"] = key("disabled", "Weights & Biases mode")
    project: str = key("pmpo-suite", "Weights & Biases project")
    entity: str | None = key(None, "Weights & Biases entity; the account's default unless given")


@dataclass
class Config:
    """One run."""

    domain: Any = key(MISSING, "the problem; domain.name chooses it")
    feedback: Literal["positive", "negative", "mixed"] = key(
        "mixed", "which labels the learner may see"
    )
    labels: LabelNoiseConfig = section(LabelNoiseConfig, "how many labels there are, and how good")
    seed: int = key(0, "seed of everything random in the run", at_least=0, below=2**32)
    objective: Any = key(MISSING, "the loss; objective.name chooses it")
    optimizer: OptimizerConfig = section(OptimizerConfig, "AdamW")
    reference: ReferenceConfig = section(ReferenceConfig, "how the reference follows the policy")
    trainer: TrainerConfig = section(TrainerConfig, "how long and on what a run trains")
    logging: LoggingConfig = section(LoggingConfig, "where metrics go besides the run folder")
    sweep: str = key(MISSING, "folder of the run under results_dir; the config file's name")
    results_dir: str = key("results", "folder of all results")

    def __post_init__(self) -> None:
        check_ranges(self)
        if not is_folder_name(self.sweep):
            raise ConfigError(f"sweep must be the name of one folder, found {self.sweep!r}")
        if not self.results_dir.isprintable():
            raise ConfigError(f"results_dir must be one line, found {self.results_dir!r}")
        self.trainer.check()
        self.domain.check()
        self.objective.check(self.feedback, self.domain)
        self.check_labels()
        self.check_ranks()
        self.check_reference()

    def check_labels(self) -> None:
        """Raise ConfigError where the objective cannot learn from the labels that are left."""
        if not self.objective.sees_labels and not self.labels.all_true:
            raise ConfigError(
                f"labels.* must be left alone with objective.name={self.objective.name}, which"
                " learns from scores and sees no labels; objective.name=pmpo takes any"
            )
        dropped = self.labels.keep < 1 or self.labels.ratio is not None
        if dropped and self.objective.averages_per_context:
            raise ConfigError(
                "objective.normalization must be shares with labels.keep or labels.ratio: means per"
                " context would count those without a label as 0; found context"
            )

    def check_ranks(self) -> None:
        """Raise ConfigError where several processes cannot work on the run together."""
        name, size_key, ranks = self.domain.name, self.domain.batch_size_key, self.trainer.ranks
        if self.trainer.strategy == "fsdp" and not self.domain.shardable:
            raise ConfigError(
                "trainer.strategy must be ddp where a domain calls parts of its networks, as"
                f" domain.name={name} does; found fsdp"
            )
        if ranks > 1 and size_key is None:
            raise ConfigError(
                f"trainer.devices and trainer.num_nodes must be 1 with domain.name={name}, whose"
                f" batches cannot be shared; found {self.trainer.devices} and"
                f" {self.trainer.num_nodes}"
            )
        if size_key is not None and getattr(self.domain, size_key) % ranks:
            raise ConfigError(
                f"domain.{size_key} must be a multiple of the {ranks} ranks of trainer.devices and"
                f" trainer.num_nodes, found {getattr(self.domain, size_key)}"
            )

    def check_reference(self) -> None:
        """Raise ConfigError where the domain's reference cannot follow, or must."""
        reason = self.domain.why_reference_is_frozen()
        if reason is not None and self.reference.update != "frozen":
            raise ConfigError(
                f"reference.update must be frozen with {reason}; found {self.reference.update}"
            )
        mass = getattr(self.objective, "calibrate", None)
        if mass is not None and self.reference.update != "frozen":
            raise ConfigError(
                f"objective.calibrate={mass:g} needs reference.update=frozen: a reference that"
                f" follows leads beyond any probability; found {self.reference.update}"
            )
        if self.domain.needs_moving_reference and self.reference.update == "frozen":
            raise ConfigError(
                f"reference.update must be copy or average with domain.name={self.domain.name}, or"
                " nothing is learned from the first policy and the first critic; found frozen"
            )

    def check_machine(self) -> None:
        """Raise ConfigError where this machine has not what the run needs."""
        self.trainer.check_machine()
        self.domain.check_machine()

    @property
    def variant(self) -> str:
        """What comparisons group by: the feedback mode under PMPO, else the objective."""
        return str(self.objective.variant(self.feedback))

    @property
    def divergence(self) -> str:
        """Which KL the domain computes: the forward one unless the objective needs another."""
        return str(self.objective.divergence_kind)

    @property
    def signature(self) -> str:
        """Twelve hexadecimal digits that identify what the run computes."""
        return sign(self)

    @property
    def run_name(self) -> str:
        """The run's folder: what a person looks for, and the signature."""
        name = f"{short_name(self.domain.task)}-{self.variant}-seed{self.seed}-{self.signature}"
        if not is_folder_name(name):
            raise ConfigError(
                f"task {self.domain.task!r} and variant {self.variant!r} must be parts of a"
                " folder's name"
            )
        return name
