"""Settings of the offline domain."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from suite.config.fields import ConfigError, key, section
from suite.domains.control.config import NetworkConfig, TaskConfig


@dataclass
class RecordingConfig:
    """The episodes that are recorded here where no path is given, from a control run's learning."""

    steps: int = key(60_000, "environment steps of the run, while it learns", at_least=1)
    success: float | None = key(
        None,
        "return from which on an episode is successful; half-way from the worst to the best of them"
        " unless given",
    )
    share: float = key(
        0.28, "share of successful episodes in what is kept of them", above=0, below=1
    )
    network: NetworkConfig = section(NetworkConfig, "its actor's and its critic's network")
    batch_size: int = key(128, "states per batch of it", at_least=1)
    warmup: int = key(1000, "its environment steps with random actions", at_least=10)
    seed: int = key(0, "its seed; independent of the run's seed", at_least=0)


@dataclass
class OfflineConfig(TaskConfig):
    """An actor and a critic that learn from recorded episodes alone."""

    implementation: ClassVar[str] = "suite.domains.control.offline:Offline"
    recorded: ClassVar[bool] = True
    needs_moving_reference: ClassVar[bool] = True  # it is the target critic
    batch_size_key: ClassVar[str | None] = "batch_size"
    name: Literal["offline"] = key("offline", "this domain")
    path: str | None = key(
        None,
        "a Minari data set's folder or a D4RL .hdf5 file; without one, episodes recorded here",
    )
    recording: RecordingConfig = section(RecordingConfig, "what is recorded without a path")
    normalize_observations: bool = key(True, "by the data's mean and deviation, cut off at ±5")
    advantage: Literal["critic", "returns"] = key(
        "critic",
        "Q of the data's action less that of the policy's, or the data's return less a value",
    )

    def check_machine(self) -> None:
        """Raise ConfigError where this machine has not what the task needs, or no such file."""
        from suite.domains.control.tasks import require

        super().check_machine()
        for package in ("h5py", "minari"):
            require(package)
        if self.path is not None and not Path(self.path).exists():
            raise ConfigError(f"domain.path={self.path}: no such file or folder")
