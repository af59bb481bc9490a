"""Sweeps: a base configuration and grids, expanded to runs with a signature each. Pure.

A sweep file:

```yaml
config: ../bandit/sphere.yaml        # the base, relative to this file
set: {trainer.steps: 500}            # keys that differ from the base in every run
grids:                               # each grid is the product of its axes
  modes: {feedback: [positive, negative, mixed], seed: [0, 1, 2]}
report: {title: What the page is about}
```

W&B runs are written offline unless `logging.wandb` says otherwise.
Grids may overlap: a run that two grids name is run once. Within a grid, two points that come out
equal are a mistake.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from suite.config.fields import ConfigError
from suite.config.loading import (
    GROUPS,
    check_known,
    first_line,
    load,
    load_values,
    read_yaml,
    use_canonical_names,
)
from suite.config.schema import Config

CHOOSERS = tuple(f"{group}.name" for group in GROUPS)


@dataclass
class ReportSettings:
    """What the report says about a sweep."""

    title: str = ""
    question: str = ""
    score: str = "score"  # what the score is called on axes
    percent: bool = False  # whether scores are shares
    log_scale: bool = False  # whether scores approach 0 from below over orders of magnitude
    x_axis: str = "step"  # what learning curves run over: optimiser steps, or an evaluation metric
    beta_grid: str | None = None  # the grid that varies β (and α), drawn as its own figure
    stable_above: float | None = None  # score that tells learning from collapse; else the start's
    # Two scores that count as 0 and 1, for all tasks: then these are also summed up together.
    normalize: list[float] = field(default_factory=list)


@dataclass
class SweepFile:
    """The contents of a sweep file."""

    config: str
    grids: dict[str, dict[str, list[Any]]]
    set: dict[str, Any] = field(default_factory=dict)
    report: ReportSettings = field(default_factory=ReportSettings)


@dataclass(frozen=True)
class Sweep:
    """A sweep, expanded."""

    name: str
    results_dir: Path
    points: dict[str, Config]  # by run name
    grids: dict[str, list[str]]  # run names of each grid
    axes: dict[str, list[str]]  # dotted keys that each grid varies
    report: ReportSettings

    @property
    def folder(self) -> Path:
        """Where the sweep's results go."""
        return self.results_dir / self.name


def load_sweep(
    path: Path, overrides: list[str] | None = None, size: dict[str, Any] | None = None
) -> Sweep:
    """Read and expand a sweep file; overrides apply to every run.

    `size` holds keys with what takes the place of an axis's values, or of a key's in every run.
    Raises ConfigError naming file, key, what was found and what is allowed.
    """
    content = sized(read_sweep_file(path), size or {})
    base = (path.parent / content.config).resolve()
    defaults = {"sweep": path.stem, "logging.wandb": "offline"}
    fixed = [*assignments(defaults | content.set), *(overrides or [])]
    points: dict[str, Config] = {}
    grids: dict[str, list[str]] = {}
    for name, axes in content.grids.items():
        check_axes(axes, fixed, f"{path}: grids.{name}")
        expanded = expand(base, fixed, axes, f"{path}: grids.{name}")
        grids[name] = list(expanded)
        points.update(expanded)
    first = next(iter(points.values()))
    axes = {name: list(grid) for name, grid in content.grids.items()}
    return Sweep(first.sweep, Path(first.results_dir), points, grids, axes, content.report)


def sized(content: SweepFile, size: dict[str, Any]) -> SweepFile:
    """Return a sweep file's contents with other values of its axes and keys."""
    varied = {axis for axes in content.grids.values() for axis in axes}
    grids = {
        name: {
            axis: size.get(axis, values) if len(values) > 1 else values
            for axis, values in axes.items()
        }
        for name, axes in content.grids.items()
    }
    fixed = {name: value for name, value in size.items() if name not in varied}
    return dataclasses.replace(content, grids=grids, set=content.set | fixed)


def read_sweep_file(path: Path) -> SweepFile:
    """Read a sweep file; raises ConfigError."""
    values = read_yaml(path)
    known = {f.name for f in dataclasses.fields(SweepFile)}
    for name in values.keys() - known:
        raise ConfigError(f"{path}: unknown key {name}; a sweep has {', '.join(sorted(known))}")
    for name in ("config", "grids"):
        if not values.get(name):
            raise ConfigError(f"{path}: {name} is required, and nothing was given")
    check_grids(values["grids"], str(path))
    for name in ("set", "report"):
        if not isinstance(values.get(name, {}), dict):
            raise ConfigError(f"{path}: {name} must map keys to values, found {values[name]!r}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(SweepFile), values)
        content = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {error.full_key or '?'}: {first_line(error)}") from None
    assert isinstance(content, SweepFile)
    check_beta_grid(content, str(path))
    bounds = content.report.normalize
    if bounds and not (len(bounds) == 2 and bounds[0] < bounds[1]):
        raise ConfigError(
            f"{path}: report.normalize must be two rising scores, as [0, 1000]; found {bounds}"
        )
    return content


def check_beta_grid(content: SweepFile, origin: str) -> None:
    """Raise ConfigError unless the β grid exists and varies only what its figure tells apart."""
    name = content.report.beta_grid
    if name is None:
        return
    if name not in content.grids:
        raise ConfigError(
            f"{origin}: report.beta_grid must name a grid ({', '.join(content.grids)}),"
            f" found {name!r}"
        )
    told_apart = ("seed", "feedback", "objective.alpha", "objective.beta", "domain.function")
    for axis, values in content.grids[name].items():
        if len(values) > 1 and axis not in told_apart:
            raise ConfigError(
                f"{origin}: grids.{name}.{axis} has {len(values)} values, but the β grid's figure"
                f" tells only {', '.join(told_apart)} apart; use a further grid"
            )


def check_grids(grids: Any, origin: str) -> None:
    """Raise ConfigError unless grids map names to axes, and axes to lists of values."""
    if not isinstance(grids, dict):
        raise ConfigError(f"{origin}: grids must map names to axes, found {grids!r}")
    for name, axes in grids.items():
        if not isinstance(axes, dict) or not axes:
            raise ConfigError(f"{origin}: grids.{name} must hold axes such as seed: [0, 1]")
        for axis, found in axes.items():
            if not isinstance(found, list):
                raise ConfigError(
                    f"{origin}: grids.{name}.{axis} must be a list of values, found {found!r}"
                )


def check_axes(axes: dict[str, list[Any]], fixed: list[str], origin: str) -> None:
    """Raise ConfigError for an axis without values, or one that is also set for all runs."""
    for axis, values in axes.items():
        if not values:
            raise ConfigError(f"{origin}: {axis} has no values")
        if axis == "domain.name":
            raise ConfigError(f"{origin}: domain.name cannot vary; write one sweep per domain")
        for override in fixed:
            if override.partition("=")[0] == axis:
                raise ConfigError(f"{origin}: {axis} is an axis and is also set by {override!r}")


def expand(
    base: Path, fixed: list[str], axes: dict[str, list[Any]], origin: str
) -> dict[str, Config]:
    """Return the runs of a grid by name; raises ConfigError for two equal points.

    Every value of an axis is checked once against the typed configuration, and the product is
    taken over the checked values, so that ten thousand points expand in a second.
    """
    chosen = {axis: values for axis, values in axes.items() if axis in CHOOSERS}
    varied = {axis: values for axis, values in axes.items() if axis not in CHOOSERS}
    points: dict[str, Config] = {}
    described: dict[str, str] = {}
    for choice in product(chosen):
        overrides = fixed + assignments(choice)
        values = with_origin(origin, partial(load_values, base, overrides))
        typed = {axis: typed_axis(values, axis, given, origin) for axis, given in varied.items()}
        template = None
        for point in product(typed):
            if template is None:
                template = with_origin(origin, partial(load, base, overrides + assignments(point)))
            config = with_values(template, point, origin)
            text, name = ", ".join(assignments(choice | point)), config.run_name
            if name in points:
                raise ConfigError(
                    f"{origin}: two points are the same run: ({described[name]}) and ({text})"
                )
            points[name], described[name] = config, text
    return points


def product(axes: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the axes' values."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


T = TypeVar("T")


def with_origin(origin: str, act: Callable[[], T]) -> T:
    """Do something that may raise ConfigError, and let the error also name the grid."""
    try:
        return act()
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None


def typed_axis(base: DictConfig, axis: str, values: list[Any], origin: str) -> list[Any]:
    """Return an axis's values as the configuration's type; raises ConfigError."""
    check_known(base, axis, origin)
    scratch, found = base.copy(), []
    for value in values:
        try:
            OmegaConf.update(scratch, axis, value, merge=False)
            with_origin(f"{origin}: {axis}", partial(use_canonical_names, scratch))
        except OmegaConfBaseException as error:
            raise ConfigError(f"{origin}: {axis}: {first_line(error)}") from None
        found.append(OmegaConf.select(scratch, axis))
    return found


def assignments(values: dict[str, Any]) -> list[str]:
    """Write values as `key=value`."""
    return [f"{name}={to_yaml(value)}" for name, value in values.items()]


def with_values(template: Config, point: dict[str, Any], origin: str) -> Config:
    """Return the template with other values at dotted names; raises ConfigError."""
    groups: dict[str, dict[str, Any]] = {}
    for name, value in point.items():
        head, _, rest = name.partition(".")
        if rest:
            groups.setdefault(head, {})[rest] = value
        else:
            groups[head] = {"": value}
    changes = {
        head: values[""] if "" in values else replaced(getattr(template, head), values)
        for head, values in groups.items()
    }
    try:
        return dataclasses.replace(template, **changes)
    except ConfigError as error:
        text = ", ".join(assignments(point))
        raise ConfigError(f"{origin}: ({text}): {error}") from None


def replaced(settings: Any, values: dict[str, Any]) -> Any:
    """Return a copy of a settings object with other values at dotted names."""
    changes: dict[str, Any] = {}
    for name, value in values.items():
        head, _, rest = name.partition(".")
        inner = changes.get(head, getattr(settings, head))
        changes[head] = replaced(inner, {rest: value}) if rest else value
    return dataclasses.replace(settings, **changes)


def to_yaml(value: Any) -> str:
    """Write a value as it stands on the right of `key=value`."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
