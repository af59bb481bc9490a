"""The signature of a run: a hash of all settings that determine what it computes."""

import dataclasses
import hashlib
import json
from functools import cache
from importlib import resources
from typing import Any

GROUPS = ("domain", "objective")  # settings of the class that their `name` chooses
UNSIGNED = (  # what does not determine the result
    *GROUPS,  # signed by themselves
    *("sweep", "results_dir", "logging"),  # where and how a run reports
    *("trainer.devices", "trainer.num_nodes", "trainer.strategy"),  # who computes it
)


def sign(config: Any) -> str:
    """Return twelve hexadecimal digits for a Config, with derived values in place of their sources.

    A key that is not in first_keys.txt counts only where its value is not the default: a new key
    leaves all finished runs their names. What changes the result under the same values (another
    default, a mended algorithm) raises the `revision` of the domain or the objective.
    """
    signed = signed_values(config, None, "")
    for group in GROUPS:
        settings = getattr(config, group)
        signed[group] = signed_values(settings, None, f"{group}[{settings.name}].")
        if settings.revision > 1:
            signed[group]["revision"] = settings.revision
    signed["objective"] |= config.objective.resolved(config.feedback)
    text = json.dumps(signed, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def signed_values(settings: Any, default: Any, prefix: str) -> dict[str, Any]:
    """Return the values of a settings object that count, nested as its sections are.

    `default` is the same object with all defaults, or None where they are those of its class.
    """
    signed: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        name, value = f"{prefix}{field.name}", getattr(settings, field.name)
        if name in UNSIGNED:
            continue
        usual = default_of(field) if default is None else getattr(default, field.name)
        if dataclasses.is_dataclass(value):
            inner = signed_values(value, usual, f"{name}.")
            if inner or not is_new(f"{name}."):
                signed[field.name] = inner
        elif not is_new(name) or value != usual:
            signed[field.name] = value
    return signed


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """Return the default of a dataclass field, or None for a section of it without one."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


@cache
def first_keys() -> tuple[str, ...]:
    """Return the keys that were there when signatures began."""
    text = resources.files("suite.config").joinpath("first_keys.txt").read_text("utf-8")
    return tuple(text.split())


@cache
def is_new(name: str) -> bool:
    """Return whether a key, or all keys of a section (with a final dot), came after the first."""
    keys = first_keys()
    return name not in keys and not (name.endswith(".") and any(k.startswith(name) for k in keys))
