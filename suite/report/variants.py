"""The names of variants: the feedback or the objective, and the keys that tell settings apart."""

from suite.config.schema import Config
from suite.report.records import value_of
from suite.sweeps.spec import Sweep


def compared_grids(sweep: Sweep) -> set[str]:
    """Return the names of all grids but the β grid."""
    return set(sweep.grids) - {sweep.report.beta_grid}


def varied_keys(sweep: Sweep) -> list[str]:
    """Return the keys that a sweep varies, the tuned ones last."""
    axes = [axis for axes in sweep.axes.values() for axis in axes]
    tuned = [key for grid in sweep.grids for key in sweep.tuned_keys(grid)]
    return list(dict.fromkeys([*axes, *tuned]))


def points_of(sweep: Sweep) -> dict[str, list[Config]]:
    """Return the runs of each grid.

    Of a tuned grid these are the runs of each variant's first candidate, whose other keys are those
    of the chosen one: the names of variants do not depend on the choice.
    """
    points = {grid: [sweep.points[name] for name in names] for grid, names in sweep.grids.items()}
    for variant in sweep.tuned:
        points[variant.grid] = []
    for variant in sweep.tuned:
        points[variant.grid] += variant.candidates[0].reported.values()
    return points


def distinguishing_axes(sweep: Sweep) -> list[str]:
    """Return the varied keys that a variant's name needs to tell settings from seeds."""
    grids = compared_grids(sweep)
    axes = {axis for grid in grids for axis in sweep.axes[grid]}
    points = points_of(sweep)
    distinguishing = []
    for axis in sorted(axes - {"seed", "feedback", "objective.name"}):
        groups: dict[tuple[str, str], set[str]] = {}
        fixed = [grid for grid in grids if axis not in sweep.tuned_keys(grid)]
        for config in (config for grid in fixed for config in points[grid]):
            group = groups.setdefault((config.domain.task, config.variant), set())
            group.add(str(value_of(config, axis)))
        if any(len(values) > 1 for values in groups.values()):
            distinguishing.append(axis)
    return distinguishing


class VariantNames:
    """The names of a sweep's variants; keys that a grid tunes are not part of them."""

    def __init__(self, sweep: Sweep) -> None:
        self.tuned = {grid: sweep.tuned_keys(grid) for grid in sweep.grids}
        self.axes = distinguishing_axes(sweep)
        points = points_of(sweep)
        grids_of: dict[tuple[str, str], set[str]] = {}
        for grid in compared_grids(sweep):
            for config in points[grid]:
                names = grids_of.setdefault((config.domain.task, self.short(config, grid)), set())
                names.add(grid if self.tuned[grid] else "")
        # Runs with chosen values and runs with given ones are no group; nor are two choices.
        self.ambiguous = {
            name: len(grids - {""}) > 1 for (_, name), grids in grids_of.items() if len(grids) > 1
        }

    def short(self, config: Config, grid: str) -> str:
        """Return a name that a variant of another grid may have too."""
        axes = [axis for axis in self.axes if axis not in self.tuned[grid]]
        values = {axis.rpartition(".")[2]: value_of(config, axis) for axis in axes}
        settings = [f"{key}={value}" for key, value in values.items() if value is not None]
        return ", ".join([config.variant, *settings])

    def name(self, config: Config, grid: str) -> str:
        """Return the name of a run's variant, as a run of a grid."""
        name = self.short(config, grid)
        if not self.tuned[grid] or name not in self.ambiguous:
            return name
        return f"{name}, tuned in {grid}" if self.ambiguous[name] else f"{name}, tuned"


def variants_of_runs(sweep: Sweep) -> dict[str, dict[str, list[str]]]:
    """Return the names of each run's variants, with the grids that give it each name."""
    names = VariantNames(sweep)
    found: dict[str, dict[str, list[str]]] = {run: {} for run in sweep.points}
    for grid, runs in sweep.grids.items():
        for run in runs:
            name = names.name(sweep.points[run], grid)
            found[run].setdefault(name, []).append(grid)
    return found
