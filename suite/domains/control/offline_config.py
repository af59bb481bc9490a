"""Settings of the offline domain."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from suite.config.fields import ConfigError, key, section
from suite.domains.control.config import NetworkConfig, TaskConfig


@dataclass
class RecordingConfig:
    """Episodes that are recorded from a learning control run where no path is given."""

    steps: int = key(60_000, "environment steps of the recorded run", at_least=1)
    success: float | None = key(
        None,
        "smallest return of a successful episode; by default the middle of the worst and the best"
        " return",
    )
    share: float = key(0.28, "share of successful episodes among the chosen ones", above=0, below=1)
    network: NetworkConfig = section(NetworkConfig, "its network of actor and of critic")
    batch_size: int = key(128, "its states per batch", at_least=1)
    warmup: int = key(1000, "its environment steps with random actions", at_least=10)
    seed: int = key(0, "its seed; independent of the key `seed`", at_least=0)


@dataclass
class OfflineConfig(TaskConfig):
    """An actor and a critic that learn from recorded episodes alone."""

    implementation: ClassVar[str] = "suite.domains.control.offline:Offline"
    recorded: ClassVar[bool] = True
    needs_moving_reference: ClassVar[bool] = True  # it holds the target critic
    batch_size_key: ClassVar[str | None] = "batch_size"
    name: Literal["offline"] = key("offline", "this domain")
    path: str | None = key(
        None,
        "folder of a Minari data set or a D4RL .hdf5 file; without one, episodes are recorded",
    )
    recording: RecordingConfig = section(RecordingConfig, "the recording without a path")
    normalize_observations: bool = key(
        True, "normalise observations by mean and deviation of the data, clipped at ±5"
    )
    advantage: Literal["critic", "returns"] = key(
        "critic",
        "Q of the recorded action minus Q of the policy's, or the recorded return minus a value",
    )

    def check_machine(self) -> None:
        """Raise ConfigError where there is no such task or file, or a package is missing."""
        from suite.domains.control.tasks import require

        super().check_machine()
        for package in ("h5py", "minari"):
            require(package)
        if self.path is not None and not Path(self.path).exists():
            raise ConfigError(f"domain.path={self.path}: no such file or folder")

    def inputs(self) -> dict[str, str]:
        """Name the recorded data."""
        return {} if self.path is None else {"path": self.path}
