"""Grids with keys to be tuned: their form, and their points as runs. Starts and reads nothing.

A variant is a point of a grid without its seed. Its candidates are the product of the keys to be
tuned. Each candidate has tuning runs, with seeds of their own; the candidate with the best mean
score (choices.py) is run with the grid's seeds, and these runs alone are reported.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from suite.config.fields import ConfigError
from suite.config.loading import Override
from suite.config.schema import Config
from suite.sweeps.grids import NAME_KEYS, check_axes, expand, product

Axes = dict[str, list[Any]]
# What tells variants, seeds and folders apart.
NEVER_TUNED = (*NAME_KEYS, "feedback", "seed", "sweep", "results_dir")
NEVER_SET = ("sweep", "results_dir")


@dataclass
class TuneSettings:
    """How the tuning runs differ from the reported ones."""

    seed: list[Any]
    set: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, list[Any]] = field(default_factory=dict)  # tuned in every grid with `tune`


@dataclass(frozen=True)
class Candidate:
    """Values of the tuned keys, with the runs that try them and those that would be reported."""

    values: dict[str, Any]
    tuning: dict[str, Config]  # by run name
    reported: dict[str, Config]


@dataclass(frozen=True)
class Variant:
    """A point of a grid without its seed, and the candidates for its tuned keys."""

    grid: str
    point: dict[str, Any]
    candidates: list[Candidate]


class Stages(NamedTuple):
    """What is fixed in all runs of a stage, beside the grids."""

    tuning: Sequence[Override]
    reported: Sequence[Override]


def with_common_keys(grids: Any, tune: Any, origin: str) -> Any:
    """Return grids in which each `tune` holds `tune.keys` of the sweep too; raises ConfigError."""
    common = tune.get("keys", {}) if isinstance(tune, dict) else {}
    if not isinstance(common, dict):
        raise ConfigError(f"{origin}: tune.keys must map keys to lists, found {common!r}")
    if not common or not isinstance(grids, dict):
        return grids
    return {
        name: axes | {"tune": (axes["tune"] or {}) | common}
        if isinstance(axes, dict) and isinstance(axes.get("tune", 0), dict | None)
        else axes
        for name, axes in grids.items()
    }


def split_tuned(grids: Any, origin: str) -> tuple[Any, dict[str, Axes]]:
    """Return grids without `tune`, and the keys to be tuned by grid; raises ConfigError."""
    if not isinstance(grids, dict):
        return grids, {}
    plain, tuned = {}, {}
    for name, axes in grids.items():
        if isinstance(axes, dict) and "tune" in axes:
            tuned[name] = axes["tune"]
            axes = {axis: values for axis, values in axes.items() if axis != "tune"}
            check_tuned(axes, tuned[name], f"{origin}: grids.{name}")
        plain[name] = axes
    return plain, tuned


def check_tuned(axes: Axes, tuned: Any, origin: str) -> None:
    """Raise ConfigError unless `tune` of a grid maps keys to lists of values."""
    if not isinstance(tuned, dict) or not tuned:
        raise ConfigError(
            f"{origin}.tune must map keys to values, as objective.beta: [0.1, 1]; found {tuned!r}"
        )
    for key, values in tuned.items():
        if key in NEVER_TUNED:
            raise ConfigError(
                f"{origin}.tune must hold keys other than {', '.join(NEVER_TUNED)}; found {key}"
            )
        if key in axes:
            raise ConfigError(
                f"{origin}.{key} must be an axis or be tuned; found both {axes[key]!r} and"
                f" tune.{key}: {values!r}"
            )
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"{origin}.tune.{key} must be a list of one value or more, found {values!r}"
            )
    if "seed" not in axes:
        raise ConfigError(f"{origin} must have the axis seed, of the reported runs; found none")


def check_tune(tune: Any, tuned: dict[str, Axes], origin: str) -> None:
    """Raise ConfigError unless a sweep file says what its tuning runs are where it tunes keys."""
    if tune is None:
        if tuned:
            raise ConfigError(
                f"{origin}: tune is required, as in tune: {{seed: [100]}}, since"
                f" grids.{next(iter(tuned))} has keys to tune; found nothing"
            )
        return
    if not tuned:
        raise ConfigError(
            f"{origin}: tune needs a grid with keys to tune, as in grids.NAME.tune:"
            " {objective.beta: [0.1, 1]}; found none"
        )
    known = [each.name for each in dataclasses.fields(TuneSettings)]
    if not isinstance(tune, dict):
        raise ConfigError(f"{origin}: tune must map {', '.join(known)}, found {tune!r}")
    for name in tune:
        if name not in known:
            raise ConfigError(f"{origin}: unknown key tune.{name}; tune has {', '.join(known)}")
    seeds, fixed = tune.get("seed"), tune.get("set", {})  # `keys` are in the grids by now
    if not isinstance(seeds, list) or not seeds:
        raise ConfigError(f"{origin}: tune.seed must be a list of seeds, found {seeds!r}")
    if not isinstance(fixed, dict):
        raise ConfigError(f"{origin}: tune.set must map keys to values, found {fixed!r}")
    for name in NEVER_SET:
        if name in fixed:
            raise ConfigError(f"{origin}: tune.set.{name} is not allowed: all runs have one folder")


def check_fixed(tune: TuneSettings, overrides: Sequence[str], origin: str) -> None:
    """Raise ConfigError where the command line sets for every run what tuning runs have apart."""
    for override in overrides:
        if (name := override.partition("=")[0].strip()) in tune.set:
            raise ConfigError(f"{origin}: tune.set.{name} is also set by {override!r}")


def expand_variants(
    base: Path, stages: Stages, axes: Axes, tuned: Axes, seeds: list[Any], origin: str
) -> list[tuple[dict[str, Any], list[Candidate]]]:
    """Return each point of a grid without its seed, and its candidates in the order of the file.

    All runs that may be reported are expanded, so that mistakes are told before the first run.
    Raises ConfigError, also for two equal points.
    """
    check_axes(axes | tuned, stages.reported, origin)
    check_axes(axes | tuned, stages.tuning, f"{origin} (tuning runs)")
    variants = []
    seen: dict[str, str] = {}
    for point in product({axis: values for axis, values in axes.items() if axis != "seed"}):
        fixed = {axis: [value] for axis, value in point.items()} | tuned
        tuning = expand(base, stages.tuning, fixed | {"seed": seeds}, f"{origin} (tuning runs)")
        reported = expand(base, stages.reported, fixed | {"seed": axes["seed"]}, origin)
        for run in reported:
            if run in seen:
                raise ConfigError(
                    f"{origin}: two points are the same run: ({seen[run]}) and ({point})"
                )
            seen[run] = str(point)
        candidates = list(product(tuned))
        parts = [each_of(runs, len(candidates)) for runs in (tuning, reported)]
        variants.append((point, [Candidate(*of) for of in zip(candidates, *parts, strict=True)]))
    return variants


def each_of(runs: dict[str, Config], candidates: int) -> list[dict[str, Config]]:
    """Cut the product of candidates and seeds, seeds last, into the runs of each candidate."""
    items, size = list(runs.items()), len(runs) // candidates
    return [dict(items[i : i + size]) for i in range(0, len(items), size)]


def check_seeds(variants: Sequence[Variant], others: dict[str, Config], origin: str) -> None:
    """Raise ConfigError where a seed of the tuning runs is also one of a reported run."""
    candidates = [candidate for variant in variants for candidate in variant.candidates]
    tuning = {config.seed for each in candidates for config in each.tuning.values()}
    reported = {config.seed for each in candidates for config in each.reported.values()}
    reported |= {config.seed for config in others.values()}
    if both := sorted(tuning & reported):
        raise ConfigError(
            f"{origin}: tune.seed must hold none of the reported runs' seeds"
            f" ({', '.join(map(str, sorted(reported)))}), found {both[0]}"
        )
