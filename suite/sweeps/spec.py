"""Sweep files: a base configuration and grids, read and expanded to runs. Starts nothing.

A sweep file:

```yaml
config: ../bandit/sphere.yaml        # the base, relative to this file
set: {trainer.steps: 500}            # keys that differ from the base in every run
grids:                               # each grid is the product of its axes
  modes: {feedback: [positive, negative, mixed], seed: [0, 1, 2]}
report: {title: What the page is about}
```

A grid may also have `tune`, a mapping from keys to values to choose from (tuning.py); the sweep's
own `tune` then says how the runs differ by whose scores they are chosen:

```yaml
tune: {seed: [100], set: {domain.eval_part: tuning}}
set: {domain.eval_part: report}
grids:
  dpo: {objective.name: [dpo], seed: [0, 1], tune: {objective.beta: [0.1, 1], optimizer.lr: [1e-3]}}
```

W&B runs are written offline unless `logging.wandb` says otherwise.
Grids may overlap: a run that two grids name is run once. Two equal points within a grid are an
error.
"""

import dataclasses
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
from suite.sweeps.normalize import check_normalize
from suite.sweeps.tuning import (
    Axes,
    Stages,
    TuneSettings,
    Variant,
    check_fixed,
    check_seeds,
    check_tune,
    expand_variants,
    split_tuned,
)

FILE_KEYS = ("config", "grids", "report", "set", "tune")
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
    tune: TuneSettings | None = None
    tuned: dict[str, dict[str, list[Any]]] = field(default_factory=dict)  # `tune` of each grid


@dataclass(frozen=True)
class Sweep:
    """An expanded sweep; the runs of its tuned grids are known once values are chosen."""

    name: str
    results_dir: Path
    points: dict[str, Config]  # the reported runs, by run name
    grids: dict[str, list[str]]  # run names of each grid
    axes: dict[str, list[str]]  # dotted keys that each grid varies, without the tuned ones
    report: ReportSettings
    tuned: list[Variant] = field(default_factory=list)
    stage: str = ""  # what its runs are, where they are a part of a sweep with tuned grids

    @property
    def folder(self) -> Path:
        """Where the sweep's results go."""
        return self.results_dir / self.name

    @property
    def title(self) -> str:
        """The name, with the stage where there are several."""
        return f"{self.name}, {self.stage}" if self.stage else self.name

    @property
    def tuning_points(self) -> dict[str, Config]:
        """The tuning runs, by run name."""
        candidates = [c for variant in self.tuned for c in variant.candidates]
        return {name: config for c in candidates for name, config in c.tuning.items()}

    def tuned_keys(self, grid: str) -> list[str]:
        """Return the keys whose values are chosen for each variant of a grid."""
        variants = [variant for variant in self.tuned if variant.grid == grid]
        return list(variants[0].candidates[0].values) if variants else []


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
        if name in content.tuned:
            grids[name] = []
            continue
        check_axes(axes, fixed, f"{path}: grids.{name}")
        expanded = expand(base, fixed, axes, f"{path}: grids.{name}")
        grids[name] = list(expanded)
        points.update(expanded)
    tuned = tuned_variants(content, base, defaults, overrides or [], str(path))
    check_seeds(tuned, points, str(path))
    possible = [c for variant in tuned for c in variant.candidates]
    known = [*points.values(), *(config for c in possible for config in c.reported.values())]
    check_tasks(content.report, (config.domain.task for config in known), str(path))
    where = Path(known[0].results_dir)
    axes = {name: list(grid) for name, grid in content.grids.items()}
    return Sweep(known[0].sweep, where, points, grids, axes, content.report, tuned)


def tuned_variants(
    content: SweepFile, base: Path, defaults: dict[str, Any], overrides: list[str], origin: str
) -> list[Variant]:
    """Expand the grids with keys to be tuned; raises ConfigError."""
    if content.tune is None:
        return []
    check_fixed(content.tune, overrides, origin)
    common = defaults | content.set
    stages = Stages(
        tuning=[*(common | content.tune.set).items(), *overrides],
        reported=[*common.items(), *overrides],
    )
    return [
        Variant(grid, point, candidates)
        for grid, keys in content.tuned.items()
        for point, candidates in expand_variants(
            *(base, stages, content.grids[grid], keys, content.tune.seed),
            f"{origin}: grids.{grid}",
        )
    ]


def resized(content: SweepFile, size: dict[str, Any]) -> SweepFile:
    """Return a sweep file's contents with other values of its axes and keys.

    An axis of one value keeps it, and so does a tuned key. `tune.seed` are the seeds of the tuning
    runs; a key that `tune.set` holds is changed there too.
    """
    size = dict(size)
    grids, tuned = (resized_axes(each, size) for each in (content.grids, content.tuned))
    varied = {axis for each in (grids, tuned) for axes in each.values() for axis in axes}
    tune = content.tune
    if tune is not None:
        seeds = size.pop("tune.seed", tune.seed)
        apart = {name: size.get(name, value) for name, value in tune.set.items()}
        tune = TuneSettings(seeds, apart)
    fixed = {name: value for name, value in size.items() if name not in varied}
    return dataclasses.replace(
        content, grids=grids, tuned=tuned, tune=tune, set=content.set | fixed
    )


def resized_axes(grids: dict[str, Axes], size: dict[str, Any]) -> dict[str, Axes]:
    """Return grids with other values of the axes that have several."""
    return {
        name: {
            axis: size.get(axis, values) if len(values) > 1 else values
            for axis, values in axes.items()
        }
        for name, axes in grids.items()
    }


def read_sweep_file(path: Path) -> SweepFile:
    """Read a sweep file; raises ConfigError."""
    values = read_yaml(path)
    for name in values.keys() - set(FILE_KEYS):
        raise ConfigError(f"{path}: unknown key {name}; a sweep has {', '.join(FILE_KEYS)}")
    for name in ("config", "grids"):
        if not values.get(name):
            raise ConfigError(f"{path}: {name} is required, and nothing was given")
    values["grids"], values["tuned"] = split_tuned(values["grids"], str(path))
    check_grids(values["grids"], str(path))
    check_tune(values.get("tune"), values["tuned"], str(path))
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
    if name in content.tuned:
        raise ConfigError(
            f"{origin}: report.beta_grid must name a grid that tunes nothing, found {name!r}"
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
