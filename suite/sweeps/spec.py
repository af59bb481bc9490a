"""Sweep files: a base configuration and grids, read and expanded to runs. Starts nothing.

A sweep file:

```yaml
config: ../bandit/sphere.yaml        # the base, relative to this file
set: {trainer.steps: 500}            # keys that differ from the base in every run
grids:                               # each grid is the product of its axes
  modes: {feedback: [positive, negative, mixed], seed: [0, 1, 2]}
report: {title: What the page is about}
```

W&B runs are written offline unless `logging.wandb` says otherwise.
Grids may overlap: a run that two grids name is run once. Two equal points within a grid are an
error.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from suite.config.fields import ConfigError
from suite.config.loading import Override, first_line, read_yaml
from suite.config.schema import Config
from suite.sweeps.grids import check_axes, expand

# Axes that the figure of the β grid shows; it would average over any other one.
BETA_AXES = ("seed", "feedback", "objective.alpha", "objective.beta", "domain.function")


@dataclass
class ReportSettings:
    """What the report says about a sweep."""

    title: str = ""
    question: str = ""
    score: str = "score"  # name of the score on axes
    percent: bool = False  # whether scores are shares
    log_scale: bool = False  # whether scores approach 0 from below over orders of magnitude
    x_axis: str = "step"  # of learning curves: optimiser steps, or an evaluation metric
    beta_grid: str | None = None  # the grid that varies β (and α), drawn as its own figure
    stable_above: float | None = None  # score below which a run has collapsed; else the start's
    # Two scores that count as 0 and 1, for all tasks or by task; with them all tasks are averaged.
    normalize: Any = None

    def bounds(self, task: str) -> tuple[float, float]:
        """Return the scores of a task that count as 0 and 1; raises KeyError without any."""
        pair = self.normalize[task] if isinstance(self.normalize, dict) else self.normalize
        return float(pair[0]), float(pair[1])


@dataclass
class SweepFile:
    """The contents of a sweep file."""

    config: str
    grids: dict[str, dict[str, list[Any]]]
    set: dict[str, Any] = field(default_factory=dict)
    report: ReportSettings = field(default_factory=ReportSettings)


@dataclass(frozen=True)
class Sweep:
    """An expanded sweep."""

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

    `size` maps an axis to other values, or a key to another value in every run. Raises ConfigError
    that names the file, the key, the value found and the values allowed.
    """
    content = resized(read_sweep_file(path), size or {})
    base = (path.parent / content.config).resolve()
    defaults = {"sweep": path.stem, "logging.wandb": "offline"}
    fixed: list[Override] = [*(defaults | content.set).items(), *(overrides or [])]
    points: dict[str, Config] = {}
    grids: dict[str, list[str]] = {}
    for name, axes in content.grids.items():
        check_axes(axes, fixed, f"{path}: grids.{name}")
        expanded = expand(base, fixed, axes, f"{path}: grids.{name}")
        grids[name] = list(expanded)
        points.update(expanded)
    check_tasks(content.report, (point.domain.task for point in points.values()), str(path))
    first = next(iter(points.values()))
    axes = {name: list(grid) for name, grid in content.grids.items()}
    return Sweep(first.sweep, Path(first.results_dir), points, grids, axes, content.report)


def resized(content: SweepFile, size: dict[str, Any]) -> SweepFile:
    """Return a sweep file's contents with other values of its axes and keys.

    An axis of one value keeps it.
    """
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
    check_normalize(content.report.normalize, str(path))
    return content


def check_normalize(given: Any, origin: str) -> None:
    """Raise ConfigError unless scores are normalised by a pair, or by a pair for each task."""
    if given is None or given == []:
        return
    pairs = given if isinstance(given, dict) and given else {None: given}
    for task, pair in pairs.items():
        if not is_rising_pair(pair):
            key = "report.normalize" if task is None else f"report.normalize.{task}"
            raise ConfigError(
                f"{origin}: {key} must be two rising scores, as [0, 1000]; found {pair!r}"
                + (
                    " (a mapping from each task to two scores is allowed too)"
                    if task is None
                    else ""
                )
            )


def is_rising_pair(pair: Any) -> bool:
    """Return whether a value is two finite numbers, the first below the second."""
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(score) in (int, float) and math.isfinite(score) for score in pair)
        and pair[0] < pair[1]
    )


def check_tasks(report: ReportSettings, tasks: Iterable[str], origin: str) -> None:
    """Raise ConfigError unless normalisation by task names each task of the sweep."""
    if not isinstance(report.normalize, dict):
        return
    if missing := [task for task in dict.fromkeys(tasks) if task not in report.normalize]:
        raise ConfigError(
            f"{origin}: report.normalize lacks the task {missing[0]}; it has"
            f" {', '.join(map(str, report.normalize))}, and each task of the sweep needs two scores"
        )


def check_beta_grid(content: SweepFile, origin: str) -> None:
    """Raise ConfigError unless the β grid exists and varies only the axes of its figure."""
    name = content.report.beta_grid
    if name is None:
        return
    if name not in content.grids:
        raise ConfigError(
            f"{origin}: report.beta_grid must name a grid ({', '.join(content.grids)}),"
            f" found {name!r}"
        )
    for axis, values in content.grids[name].items():
        if len(values) > 1 and axis not in BETA_AXES:
            raise ConfigError(
                f"{origin}: grids.{name}.{axis} has {len(values)} values, but the β grid's figure"
                f" tells only {', '.join(BETA_AXES)} apart; use a further grid"
            )


def check_grids(grids: Any, origin: str) -> None:
    """Raise ConfigError unless grids map names to axes, and axes to lists of values."""
    if not isinstance(grids, dict):
        raise ConfigError(f"{origin}: grids must map names to axes, found {grids!r}")
    for name, axes in grids.items():
        if not isinstance(axes, dict) or not axes:
            raise ConfigError(f"{origin}: grids.{name} must hold axes such as seed: [0, 1]")
        for axis, values in axes.items():
            if not isinstance(values, list):
                raise ConfigError(
                    f"{origin}: grids.{name}.{axis} must be a list of values, found {values!r}"
                )
