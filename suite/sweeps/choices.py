"""The choice among the candidates of a tuned sweep, and the stages that follow from it.

The tuning runs of all variants come first. Once all of them have ended, each variant's candidate
with the best mean score over the tuning seeds is chosen. The choice follows from the runs' folders
alone, so that a command that was interrupted at any point makes it again.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from suite.config.fields import ConfigError
from suite.config.schema import Config
from suite.runs.folder import RunFolder
from suite.sweeps.spec import Sweep
from suite.sweeps.states import ShownState, state_of
from suite.sweeps.tuning import Candidate, Variant
from suite.system.files import read_json, write_json

FILE = "choices.json"
ENDED = ("finished", "failed")


class Result(NamedTuple):
    """How a tuning run stands, and its last score; None unless it finished with one."""

    run: str
    state: ShownState
    score: float | None


@dataclass(frozen=True)
class Choice:
    """The results of a variant's candidates, in their order."""

    variant: Variant
    results: list[list[Result]]

    @property
    def is_made(self) -> bool:
        """Whether all tuning runs of the variant have ended."""
        return all(each.state in ENDED for results in self.results for each in results)

    @property
    def scores(self) -> list[float]:
        """The mean score of each candidate."""
        return [mean_score(results) for results in self.results]

    @property
    def best(self) -> Candidate:
        """The candidate with the best mean score, the first of equal ones."""
        scores = self.scores
        return self.variant.candidates[scores.index(max(scores))]

    @property
    def edges(self) -> list[str]:
        """The tuned keys whose chosen number is the smallest or largest that was tried."""
        return [key for key in self.best.values if is_edge(self.variant, key, self.best)]


def mean_score(results: Sequence[Result]) -> float:
    """Return the mean score over seeds; −∞ where a run failed or its score is not finite."""
    scores = [each.score for each in results if each.score is not None]
    finite = [score for score in scores if math.isfinite(score)]
    return fmean(finite) if len(finite) == len(results) else -math.inf


def is_edge(variant: Variant, key: str, chosen: Candidate) -> bool:
    """Return whether the chosen value is at an end of the numbers that were tried for a key."""
    tried = [candidate.values[key] for candidate in variant.candidates]
    numbers = {value for value in tried if type(value) in (int, float)}
    return len(numbers) > 1 and chosen.values[key] in (min(numbers), max(numbers))


def choices_of(sweep: Sweep) -> list[Choice]:
    """Read the tuning runs of each variant."""
    return [
        Choice(variant, [results_of(candidate.tuning) for candidate in variant.candidates])
        for variant in sweep.tuned
    ]


def results_of(runs: dict[str, Config]) -> list[Result]:
    """Return how runs stand, in their order."""
    results = []
    for name, config in runs.items():
        run = RunFolder.of(config)
        state = state_of(run)
        score = (run.summary() or {}).get("score") if state == "finished" else None
        is_number = type(score) in (int, float)  # a damaged summary may hold anything
        results.append(Result(name, state, score if is_number else None))
    return results


def is_waiting(choices: Sequence[Choice]) -> bool:
    """Return whether any tuning run has not ended: nothing is chosen before that."""
    return not all(choice.is_made for choice in choices)


def with_choices(sweep: Sweep, choices: Sequence[Choice] | None = None) -> Sweep:
    """Return a sweep with the reported runs of its tuned grids; without these while it waits."""
    choices = choices_of(sweep) if choices is None else choices
    tuned = {variant.grid for variant in sweep.tuned}
    grids: dict[str, list[str]] = {
        name: [] if name in tuned else names for name, names in sweep.grids.items()
    }
    known = dict(sweep.points)
    if not is_waiting(choices):
        for choice in choices:
            grids[choice.variant.grid] += choice.best.reported
            known |= choice.best.reported
    points = {name: known[name] for names in grids.values() for name in names}
    return dataclasses.replace(sweep, points=points, grids=grids)


def tuning_stage(sweep: Sweep) -> Sweep:
    """Return the tuning runs of a sweep, as a sweep."""
    grids: dict[str, list[str]] = {}
    for variant in sweep.tuned:
        names = [name for candidate in variant.candidates for name in candidate.tuning]
        grids.setdefault(variant.grid, []).extend(names)
    return dataclasses.replace(
        sweep, points=sweep.tuning_points, grids=grids, tuned=[], stage="tuning"
    )


def known_stages(sweep: Sweep) -> list[Sweep]:
    """Return the tuning runs, where there are any, and the reported runs that are known."""
    if not sweep.tuned:
        return [sweep]
    return [tuning_stage(sweep), dataclasses.replace(with_choices(sweep), stage="reported")]


def stages(sweep: Sweep) -> Iterator[Sweep]:
    """Yield what is run at a time: the tuning runs, and the reported ones once those have ended.

    Writes the choices before the first and after the last tuning run.
    """
    if sweep.tuned:
        write_choices(sweep)
        yield tuning_stage(sweep)
        write_choices(sweep)
        if is_waiting(choices_of(sweep)):
            return
        sweep = dataclasses.replace(with_choices(sweep), stage="reported")
    yield sweep


def next_stage(sweep: Sweep, retry: bool) -> Sweep:
    """Return the stage that is to be run now; with `retry`, failed tuning runs are run again."""
    if not sweep.tuned:
        return sweep
    states = {each.state for c in choices_of(sweep) for results in c.results for each in results}
    over = states <= ({"finished"} if retry else set(ENDED))
    return known_stages(sweep)[1 if over else 0]


def waiting_text(choices: Sequence[Choice]) -> str:
    """Say how many tuning runs the reported ones wait for; nothing where they wait for none."""
    results = [each for choice in choices for results in choice.results for each in results]
    ended = sum(each.state in ENDED for each in results)
    if ended == len(results):
        return ""
    return (
        f"waiting for tuning: {ended} of {len(results)} tuning runs have ended, and values are"
        " chosen when all have"
    )


def point_of(sweep: Sweep, index: int) -> Config:
    """Return a run by its place, from 0 on, tuning runs first; raises ConfigError."""
    points = [config for stage in known_stages(sweep) for config in stage.points.values()]
    if not 0 <= index < len(points):
        raise ConfigError(f"--point must lie in 0 to {len(points) - 1}, found {index}")
    return points[index]


def write_choices(sweep: Sweep) -> None:
    """Write the results of all candidates and what is chosen to FOLDER/choices.json."""
    choices = choices_of(sweep)
    waiting = is_waiting(choices)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    rows = [choice_row(choice, waiting) for choice in choices]
    write_json(sweep.folder / FILE, {"variants": rows})


def choice_row(choice: Choice, waiting: bool) -> dict[str, Any]:
    """Return a variant's choice as JSON values."""
    pairs = zip(choice.variant.candidates, choice.results, choice.scores, strict=True)
    return {
        "grid": choice.variant.grid,
        "point": choice.variant.point,
        "chosen": None if waiting else choice.best.values,
        "on_the_edge": [] if waiting else choice.edges,
        "candidates": [
            {
                "values": candidate.values,
                "score": score if math.isfinite(score) else None,
                "runs": {each.run: {"state": each.state, "score": each.score} for each in results},
            }
            for candidate, results, score in pairs
        ],
    }


def tuning_runs(folder: Path) -> set[str]:
    """Return the names of the tuning runs below a sweep's folder; empty where it tunes nothing."""
    rows = (read_json(folder / FILE) or {}).get("variants")
    try:
        return {str(run) for row in rows or () for c in row["candidates"] for run in c["runs"]}
    except (KeyError, TypeError, IndexError):  # damaged; the next launch writes it anew
        return set()
