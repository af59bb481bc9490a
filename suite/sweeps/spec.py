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
    # Two scores that count as 0 and 1 for all tasks; with them all tasks are also averaged.
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
    bounds = content.report.normalize
    if bounds and not (len(bounds) == 2 and bounds[0] < bounds[1]):
        raise ConfigError(
            f"{path}: report.normalize must be two rising scores, as [0, 1000]; found {bounds}"
        )
    return content


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
