"""Declaring a configuration key: its default, its meaning and its range, in one place."""

import dataclasses
import math
from typing import Any

MAX_NAME_BYTES = 255  # of a name in a folder


class ConfigError(Exception):
    """A configuration that cannot run; the message is one sentence for the person who wrote it."""


def key(
    default: Any,
    meaning: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    kind: str | None = None,
) -> Any:
    """Return a dataclass field that documents itself in `--help` and knows its allowed range.

    `kind` says of which kind of plug-in the value is a name (suite.config.registry).
    """
    facts = (("at_least", at_least), ("above", above), ("at_most", at_most), ("below", below))
    metadata = {"meaning": meaning, "kind": kind, **dict(facts)}
    metadata = {name: value for name, value in metadata.items() if value is not None}
    return dataclasses.field(default=default, metadata=metadata)


def is_folder_name(name: str) -> bool:
    """Tell whether a text names one folder, and stays within the line where it is written."""
    is_short = len(name.encode("utf-8", "replace")) <= MAX_NAME_BYTES
    return name.isprintable() and is_short and "/" not in name and name not in ("", ".", "..")


def section(kind: type, meaning: str) -> Any:
    """Return a dataclass field that holds a group of keys."""
    return dataclasses.field(default_factory=kind, metadata={"meaning": meaning})


def check_ranges(settings: Any, prefix: str = "") -> None:
    """Check every key of a settings object against its range; raises ConfigError naming the key."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        name = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            check_ranges(value, f"{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            check_range(name, value, field.metadata)


def check_range(name: str, value: float, bounds: Any) -> None:
    """Raise ConfigError when `value` is not finite or outside the bounds that `key` declared."""
    if not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number, found {value}")
    if "below" in bounds and not value < bounds["below"]:
        raise ConfigError(f"{name} must be less than {bounds['below']}, found {value}")
    if "above" in bounds and not value > bounds["above"]:
        raise ConfigError(f"{name} must be greater than {bounds['above']}, found {value}")
    if "at_least" in bounds and not value >= bounds["at_least"]:
        raise ConfigError(f"{name} must be at least {bounds['at_least']}, found {value}")
    if "at_most" in bounds and not value <= bounds["at_most"]:
        raise ConfigError(f"{name} must be at most {bounds['at_most']}, found {value}")
