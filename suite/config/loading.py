"""A run's configuration: dataclass defaults ← one YAML file ← `key=value`.

Nothing here imports torch, so that a mistake is reported at once.
"""

import dataclasses
import difflib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from suite.config.fields import ConfigError
from suite.config.registry import Choice, canonical_name, choose, known_names
from suite.config.schema import Config
from suite.config.values import (
    Given,
    check_resolvers,
    parse_yaml,
    typed,
    typed_value,
    untyped,
)

GROUPS = ("domain", "objective")  # whose `name` chooses their class
DEFAULT_NAMES = {"objective": "pmpo"}
Override = str | tuple[str, Any]  # `key=value` as a person writes it, or key and typed value


def load(path: Path, overrides: Sequence[Override] = ()) -> Config:
    """Load a run's configuration from a YAML file and overrides.

    Raises ConfigError with one sentence that names the file and the key.
    """
    return to_config(load_values(path, overrides), str(path))


def load_values(path: Path, overrides: Sequence[Override]) -> DictConfig:
    """Merge typed defaults, file and overrides; ranges and cross-checks come with to_config."""
    values = read_plain(path)
    chosen = {group: chosen_class(values, overrides, group, str(path)) for group in GROUPS}
    for group, choice in chosen.items():
        in_file = group_of(values, group, str(path)).get("name", DEFAULT_NAMES.get(group))
        if in_file is not None and choose(group, str(in_file)).name != choice.name:
            values[group] = {}  # the file's keys are of another choice
    merged = schema_for(chosen["domain"].settings, chosen["objective"].settings).copy()
    merge(merged, without_names(values), str(path))
    for override in overrides:
        merge(merged, without_names(values_of(override)), origin_of(override))
    for group, choice in chosen.items():
        merged[group].name = choice.name
    try:
        use_canonical_names(merged)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if OmegaConf.is_missing(merged, "sweep"):
        merged.sweep = path.stem
    return merged


def to_config(merged: DictConfig, origin: str) -> Config:
    """Turn a merged configuration into its dataclasses; raises ConfigError."""
    missing = sorted(OmegaConf.missing_keys(merged))
    if missing:
        raise ConfigError(f"{origin}: {missing[0]} is required, and nothing was given")
    config = to_settings(merged, origin)
    assert isinstance(config, Config)
    return config


def to_settings(merged: DictConfig, origin: str) -> Any:
    """Turn typed values into their dataclass, which checks them; raises ConfigError."""
    try:
        return OmegaConf.to_object(merged)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{origin}: {error.full_key or '?'}: {first_line(error)}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; raises ConfigError naming file and line.

    Words that look like decimal numbers are numbers.
    """
    values: dict[str, Any] = untyped(read_plain(path))
    return values


def read_plain(path: Path) -> dict[str, Any]:
    """Read a YAML file as `read_yaml` does, and leave plain words as text until they are merged."""
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except FileNotFoundError:
        near = sorted(str(p) for p in Path("configs").glob("**/*.yaml"))
        close = difflib.get_close_matches(str(path), near, n=1, cutoff=0.7)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"{path}: no such file{hint}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, expected a YAML file") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError(f"{path}, line {line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException, OSError) as error:
        raise ConfigError(f"{path}: not readable: {first_line(error)}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, found {type(values).__name__}")
    return {str(name): value for name, value in values.items()}


def values_of(override: Override) -> dict[str, Any]:
    """Return an override as a nested mapping; a typed value is taken as it is."""
    if isinstance(override, str):
        return parse_override(override)
    name, value = override
    for part in reversed(name.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def origin_of(override: Override) -> str:
    """Say where a value comes from, for messages."""
    shown = override if isinstance(override, str) else f"{override[0]}={override[1]}"
    return f"override {shown!r}"


def parse_override(text: str) -> dict[str, Any]:
    """Parse `key.path=value` into a nested mapping; raises ConfigError."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"override {text!r}: expected key=value, as in trainer.steps=100")
    try:
        check_resolvers(value, name.strip())
        if "${" in value:  # there is nothing that it could refer to
            OmegaConf.to_container(OmegaConf.from_dotlist([text]), resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(f"override {text!r}: {first_line(error)}") from None
    nested: Any = Given(value.strip())
    if name.strip() in GROUPS:  # a mapping, which also chooses the class of the other keys
        try:
            nested = parse_yaml(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"override {text!r}: {first_line(error)}") from None
    for part in reversed(name.strip().split(".")):
        nested = {part: nested}
    result: dict[str, Any] = nested
    return result


def chosen_class(
    values: dict[str, Any], overrides: Sequence[Override], group: str, origin: str
) -> Choice:
    """Return the domain or objective that file and overrides choose; raises ConfigError."""
    name = group_of(values, group, origin).get("name", DEFAULT_NAMES.get(group))
    for override in overrides:
        named = override if isinstance(override, str) else override[0]
        if named.startswith(group):
            changed = group_of(values_of(override), group, origin_of(override))
            name = changed.get("name", name)
    name = typed_value(name, str | None, f"{group}.name")
    if not isinstance(name, str):
        known, shown = ", ".join(known_names(group)), "nothing" if name is None else name
        raise ConfigError(f"{origin}: {group}.name must be one of {known}; found {shown}")
    try:
        return choose(group, name)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None


def without_names(values: dict[str, Any]) -> dict[str, Any]:
    """Return raw values without the names of domain and objective, which are resolved apart."""
    return {
        group: {k: v for k, v in inner.items() if k != "name"}
        if group in GROUPS and isinstance(inner, dict)
        else inner
        for group, inner in values.items()
    }


@cache
def schema_for(domain: type, objective: type) -> DictConfig:
    """Return the typed defaults of a domain and an objective, to be copied."""
    schema = OmegaConf.structured(Config)
    schema.domain = OmegaConf.structured(domain)
    schema.objective = OmegaConf.structured(objective)
    assert isinstance(schema, DictConfig)
    return schema


def use_canonical_names(merged: DictConfig) -> None:
    """Replace names of plug-ins, such as a task's, by their canonical ones; raises ConfigError."""
    for group in GROUPS:
        settings: Any = OmegaConf.get_type(merged, group)
        for field in dataclasses.fields(settings):
            kind = field.metadata.get("kind")
            if kind is not None:
                merged[group][field.name] = canonical_name(kind, merged[group][field.name])


def group_of(values: dict[str, Any], group: str, origin: str) -> dict[str, Any]:
    """Return a group of keys from raw values; raises ConfigError when it is not a mapping."""
    inner = values.get(group, {})
    if not isinstance(inner, dict):
        raise ConfigError(f"{origin}: {group} must hold keys such as {group}.name, found {inner!r}")
    return inner


def merge(base: DictConfig, values: dict[str, Any], origin: str) -> None:
    """Merge raw values into a typed configuration, in place; raises ConfigError naming the key."""
    try:
        values = typed(base, values)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(f"{origin}: {first_line(error)}") from None
    for name in leaf_names(values):
        check_known(base, name, origin)
    try:
        base.merge_with(values)
    except OmegaConfBaseException as error:
        name = error.full_key or "?"
        raise ConfigError(f"{origin}: {name}: {first_line(error)}") from None


def check_known(base: DictConfig, name: str, origin: str) -> None:
    """Raise ConfigError with the nearest known key when `name` is not one."""
    known = leaf_names(OmegaConf.to_container(base))
    if name in known:
        return
    inside = [k for k in known if k.startswith(f"{name}.")]
    if inside:
        raise ConfigError(f"{origin}: {name} holds keys such as {inside[0]}; it takes no value")
    leaf = [k for k in known if k.rpartition(".")[2] == name.rpartition(".")[2]]
    near = leaf or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "; `--help` lists all keys"
    raise ConfigError(f"{origin}: unknown key {name}{hint}")


def leaf_names(values: Any, prefix: str = "") -> list[str]:
    """Return the dotted names of all values in nested mappings."""
    names: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict):
            names.extend(leaf_names(value, f"{prefix}{name}."))
        else:
            names.append(f"{prefix}{name}")
    return names


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().splitlines()[0]
