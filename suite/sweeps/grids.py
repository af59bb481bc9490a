"""Grids: the product of their axes, as typed configurations by run name."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from suite.config.fields import ConfigError
from suite.config.loading import (
    GROUPS,
    Override,
    check_known,
    first_line,
    load,
    load_values,
    use_canonical_names,
)
from suite.config.schema import Config

# Axes that choose a class, and with it which other keys there are.
NAME_KEYS = tuple(f"{group}.name" for group in GROUPS)
T = TypeVar("T")


def check_axes(axes: dict[str, list[Any]], fixed: Sequence[Override], origin: str) -> None:
    """Raise ConfigError for an axis without values, or one that is also set for all runs."""
    for axis, values in axes.items():
        if not values:
            raise ConfigError(f"{origin}: {axis} has no values")
        if axis == "domain.name":
            raise ConfigError(f"{origin}: domain.name cannot vary; write one sweep per domain")
        for override in fixed:
            text = override if isinstance(override, str) else assignments(dict([override]))[0]
            if text.partition("=")[0].strip() == axis:
                raise ConfigError(f"{origin}: {axis} is an axis and is also set by {text!r}")


def expand(
    base: Path, fixed: Sequence[Override], axes: dict[str, list[Any]], origin: str
) -> dict[str, Config]:
    """Return the configurations of a grid by run name; raises ConfigError for two equal points.

    Every value of an axis is checked once against the typed configuration, and the product is
    taken over the checked values, so that ten thousand points expand in a second.
    """
    name_axes = {axis: values for axis, values in axes.items() if axis in NAME_KEYS}
    value_axes = {axis: values for axis, values in axes.items() if axis not in NAME_KEYS}
    points: dict[str, Config] = {}
    descriptions: dict[str, str] = {}
    for names in product(name_axes):
        overrides = [*fixed, *names.items()]
        values = with_origin(origin, partial(load_values, base, overrides))
        typed = {
            axis: typed_axis(values, axis, given, origin) for axis, given in value_axes.items()
        }
        template = None
        for point in product(typed):
            if template is None:
                template = with_origin(origin, partial(load, base, [*overrides, *point.items()]))
            config = with_values(template, point, origin)
            text, run = ", ".join(assignments(names | point)), config.run_name
            if run in points:
                raise ConfigError(
                    f"{origin}: two points are the same run: ({descriptions[run]}) and ({text})"
                )
            points[run], descriptions[run] = config, text
    return points


def product(axes: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the axes' values."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def with_origin(origin: str, function: Callable[[], T]) -> T:
    """Call a function, and add the grid's name to the ConfigError that it raises."""
    try:
        return function()
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None


def typed_axis(base: DictConfig, axis: str, values: list[Any], origin: str) -> list[Any]:
    """Return an axis's values as the configuration's type; raises ConfigError."""
    check_known(base, axis, origin)
    scratch, typed = base.copy(), []
    for value in values:
        try:
            OmegaConf.update(scratch, axis, value, merge=False)
            with_origin(f"{origin}: {axis}", partial(use_canonical_names, scratch))
            typed.append(OmegaConf.select(scratch, axis))
        except OmegaConfBaseException as error:
            raise ConfigError(f"{origin}: {axis}: {first_line(error)}") from None
    return typed


def with_values(template: Config, point: dict[str, Any], origin: str) -> Config:
    """Return the template with other values at dotted keys; raises ConfigError."""
    try:
        config: Config = with_dotted_values(template, point)
    except ConfigError as error:
        text = ", ".join(assignments(point))
        raise ConfigError(f"{origin}: ({text}): {error}") from None
    return config


def with_dotted_values(settings: Any, values: dict[str, Any]) -> Any:
    """Return a copy of a settings object with other values at dotted keys.

    The values of one object change together, since its checks compare them with each other.
    """
    changes: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        head, _, rest = name.partition(".")
        if rest:
            nested.setdefault(head, {})[rest] = value
        else:
            changes[head] = value
    for head, inner in nested.items():
        changes.setdefault(head, with_dotted_values(getattr(settings, head), inner))
    return dataclasses.replace(settings, **changes)


def assignments(values: dict[str, Any]) -> list[str]:
    """Write values as `key=value`."""
    return [f"{name}={to_yaml(value)}" for name, value in values.items()]


def to_yaml(value: Any) -> str:
    """Write a value as it stands on the right of `key=value`."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
