"""Cluster profiles: the settings of a site, in slurm/<name>.yaml.

This module imports nothing heavy, and works without SLURM.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from suite.config.fields import ConfigError, check_ranges, key
from suite.config.loading import check_known, first_line, leaf_names, read_yaml, to_settings
from suite.sweeps.slurm_options import check_line, check_options

FOLDER = Path("slurm")
ONE_LINE = (  # texts of which each is a line of the batch script
    *("partition", "account", "qos", "constraint", "exclude", "container", "python"),
    *("mail_user", "mail_type"),
)
MIN_NOTICE_SECONDS = 30  # SLURM checks limits only that often


@dataclass
class Profile:
    """How this suite's jobs ask for resources at one site."""

    scheduler: Literal["slurm", "none"] = key(
        "slurm", "`none`: processes on this machine, and no other key counts"
    )
    partition: str | None = key(None, "partition or partitions, as in `gpu,preemptible`")
    account: str | None = key(None, "account that is charged")
    qos: str | None = key(None, "quality of service")
    constraint: str | None = key(None, "features that nodes must have, as in `a100|h100`")
    exclude: str | None = key(None, "nodes to stay away from")
    minutes: int = key(
        60, "time limit of a job; a longer run continues in a further one", at_least=1
    )
    gpus: str = key("0", "GPUs of a job: a number, or a type and a number as in `h100:1`")
    cpus: int = key(2, "CPUs per worker", at_least=1)
    memory_gb: float = key(8.0, "memory per node, in GB", above=0)
    at_once: int = key(256, "elements of an array that may run at the same time", at_least=1)
    runs_per_job: int = key(1, "runs that share a job", at_least=1)
    side_by_side: int | None = key(
        None, "how many of them train at once, each in its own worker; all unless given", at_least=1
    )
    notice_seconds: int = key(
        120,
        "seconds before the limit at which a job gets the signal to save; up to 30 earlier",
        at_least=MIN_NOTICE_SECONDS,
    )
    setup: list[str] = field(
        default_factory=list,
        metadata={"meaning": "shell lines before the job, such as `module load cuda`"},
    )
    container: str | None = key(
        None, "command before python, such as `apptainer exec --nv image.sif`"
    )
    python: str | None = key(
        None, "python on the nodes; the path of this process's python unless given"
    )
    mail_user: str | None = key(None, "address for mail")
    mail_type: str | None = key(None, "events for mail, as in `END,FAIL`")
    options: dict[str, str] = field(
        default_factory=dict, metadata={"meaning": "further options of sbatch, by long name"}
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        for name in ONE_LINE:
            check_line(name, getattr(self, name) or "")
        check_options(self.options, ())
        if not re.fullmatch(r"([A-Za-z][\w-]*:)?\d+", self.gpus):
            raise ConfigError(
                f"gpus must be a number, or a type and a number as in h100:1; found {self.gpus!r}"
            )
        if self.workers > self.runs_per_job:
            raise ConfigError(
                f"side_by_side={self.side_by_side} must be at most runs_per_job={self.runs_per_job}"
            )
        if self.notice_seconds >= 60 * self.minutes:
            raise ConfigError(
                f"notice_seconds={self.notice_seconds} must be less than the limit of"
                f" minutes={self.minutes}"
            )

    @property
    def workers(self) -> int:
        """The number of worker processes of a job."""
        return self.side_by_side or self.runs_per_job


def load_profile(name: str) -> Profile:
    """Read slurm/<name>.yaml, or a file by its path; raises ConfigError naming file and key."""
    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml"))) or "none here"
        raise ConfigError(f"{path}: no such file; cluster profiles are {known}")
    values = read_yaml(path)
    schema = OmegaConf.structured(Profile)
    options: Any = values.get("options", {})
    for known_key in leaf_names({k: v for k, v in values.items() if k != "options"}):
        check_known(schema, known_key, str(path))
    if not isinstance(options, dict):
        raise ConfigError(f"{path}: options must map sbatch options to values, found {options!r}")
    try:
        merged = OmegaConf.merge(schema, values)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {error.full_key or '?'}: {first_line(error)}") from None
    assert isinstance(merged, DictConfig)
    profile = to_settings(merged, str(path))
    assert isinstance(profile, Profile)
    try:
        check_options(profile.options, [name for name in values if values[name] is not None])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return profile
