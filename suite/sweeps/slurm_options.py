"""The options of sbatch that a profile adds, beside those that the suite writes.

An option of the profile replaces what the suite would write of the same group, since SLURM refuses
two of them, or takes the last one.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from suite.config.fields import ConfigError

# Options of which a job has one. The keys of a profile that say the same come first.
GROUPS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("memory_gb",): ("mem", "mem-per-cpu", "mem-per-gpu"),
    ("cpus",): ("cpus-per-task", "cpus-per-gpu"),
    ("gpus",): ("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"),
    ("minutes",): ("time",),
    ("partition",): ("partition",),
    ("account",): ("account",),
    ("qos",): ("qos",),
    ("constraint",): ("constraint",),
    ("exclude",): ("exclude",),
    ("mail_user",): ("mail-user",),
    ("mail_type",): ("mail-type",),
    (): ("requeue", "no-requeue"),
}
NOT_TOGETHER = (("exclusive", "oversubscribe"),)
SAME = {"share": "oversubscribe", "workdir": "chdir", "tasks-per-node": "ntasks-per-node"}
# What the suite has to decide, and why.
RESERVED = {
    **dict.fromkeys(("nodes", "ntasks", "ntasks-per-node"), "trainer.num_nodes, trainer.devices"
                    " and side_by_side say how many processes there are"),
    **dict.fromkeys(("ntasks-per-gpu", "ntasks-per-core", "ntasks-per-socket"),
                    "trainer.devices and side_by_side say how many processes there are"),
    **dict.fromkeys(("array", "job-name", "wrap", "parsable", "test-only", "wait"),
                    "the suite needs its own"),
    **dict.fromkeys(("output", "error", "input", "open-mode"), "the suite reads these files"),
    "signal": "notice_seconds says it",
}  # fmt: skip


def option_name(name: str) -> str:
    """Return the name of an option of sbatch as SLURM spells it; raises ConfigError."""
    plain = name.strip().removeprefix("--").replace("_", "-").lower()
    if not re.fullmatch(r"[a-z][a-z0-9-]+", plain):
        raise ConfigError(
            f"options must have long names of sbatch's options, as mem-per-cpu; found {name!r}"
        )
    return SAME.get(plain, plain)


def group_of(name: str) -> tuple[str, ...]:
    """Return the options of which a job has one, with this one among them."""
    return next((group for group in GROUPS.values() if name in group), (name,))


def check_options(options: Mapping[str, str], given_keys: Iterable[str]) -> None:
    """Raise ConfigError for options that contradict each other, or a key that the profile has."""
    seen: dict[str, str] = {}
    for written, value in options.items():
        name = option_name(written)
        check_line(f"options.{written}", value)
        if name in RESERVED:
            raise ConfigError(f"options.{written} cannot be given: {RESERVED[name]}")
        if name in seen:
            raise ConfigError(f"options.{written} and options.{seen[name]} are the same option")
        seen[name] = written
    for group in (*GROUPS.values(), *NOT_TOGETHER):
        together = [seen[name] for name in group if name in seen]
        # SLURM joins several counts of GPUs; it refuses the others.
        if len(together) > 1 and "gpus-per-node" not in group:
            raise ConfigError(
                f"options.{together[0]} and options.{together[1]} exclude each other; give one"
            )
    for keys, group in GROUPS.items():
        for name in (n for n in group if n in seen):
            for known in keys:
                if known in given_keys:
                    raise ConfigError(
                        f"{known} and options.{seen[name]} say the same in two ways; give one"
                    )


def check_line(name: str, value: str) -> None:
    """Raise ConfigError for a text that would not stay on its line of the batch script."""
    if not value.isprintable():
        raise ConfigError(f"{name} must be one line of printable text, found {value!r}")


def with_options(parameters: dict[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
    """Return submitit's parameters of a job with a profile's options in place of the suite's.

    `true` becomes a flag, and `false` leaves an option out.
    """
    further = dict(parameters["additional_parameters"])
    kept = dict(parameters)
    for written, value in options.items():
        name = option_name(written)
        group = group_of(name)
        if name == "gres" and "gpu" not in re.split(r"[:,]", value) and "gres" in further:
            value = f"{further['gres']},{value}"  # of another kind than GPUs
        if "gpus-per-node" in group:
            further.pop("gres", None)
        for other in group:
            kept.pop(other.replace("-", "_"), None)
            further.pop(other, None)
        if "cpus-per-task" in group:
            kept["srun_args"] = srun_arguments(kept["srun_args"], name, value)
        if value.lower() != "false":
            further[name] = value.lower() == "true" or value
    return kept | {"additional_parameters": further}


def srun_arguments(arguments: list[str], name: str, value: str) -> list[str]:
    """Return srun's arguments with another option for CPUs, which srun does not take over."""
    others = [argument for argument in arguments if not argument.startswith("--cpus-per-")]
    return others if value.lower() == "false" else [f"--{name}={value}", *others]


def is_of_the_work(name: str) -> bool:
    """Return whether an option is for jobs that train, and not for the one that writes a report.

    That one waits for the others, and has no GPU.
    """
    plain = option_name(name)
    return plain in ("dependency", "exclusive", "gres") or "gpu" in plain
