"""Records of runs: what tables and figures show, read from run folders or from JSON lines.

A line holds the measurements and the meaning of the run's settings. Figures can therefore be drawn
again when neither the run nor the format of its configuration exists any more.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from suite.config.fields import ConfigError
from suite.config.schema import Config
from suite.objectives.bounds import smallest_gaussian_beta
from suite.report.reading import (
    LARGEST_VIDEO,
    RecordState,
    environment_of,
    examples_of,
    read_run,
)
from suite.runs.folder import RunFolder
from suite.system.files import read_json_lines, write_text
from suite.system.json_text import NOT_FINITE, json_text

DIGITS = 6  # significant digits in the lines
COLUMNS = (
    "run", "domain", "task", "objective", "feedback", "seed", "status", "step", "score", "kl",
)  # fmt: skip


@dataclass(frozen=True)
class RunRecord:
    """One run."""

    name: str
    domain: str
    task: str
    objective: str
    feedback: str
    seed: int
    variant: str
    """The group in comparisons: feedback mode or objective, and other keys that grids vary."""
    state: RecordState
    point: dict[str, Any]
    """The keys that the sweep varies, with this run's values."""
    evaluations: list[dict[str, float]] = field(repr=False)
    """The rows of metrics that hold a score."""
    grids: list[str] = field(default_factory=list)
    """The sweep's grids that name this run; empty in lines that were stored before."""
    alpha: float | None = None
    """PMPO's α."""
    beta: float | None = None
    """PMPO's β, where it is a number."""
    gaussian_beta: float | None = None
    """The smallest β with a bounded loss, of Gaussian policies in closed form (theory §11)."""
    reject_share: float | None = None
    """The share of rejected samples that the run measured first."""
    commit: str = ""
    error: str = ""
    """Why the run failed, or nothing."""
    problem: str = ""
    """Why the run's numbers are left out, or nothing."""
    notes: list[str] = field(default_factory=list)
    """What is wrong with its other files."""
    folder: RunFolder | None = None
    """The run's folder; None for a record that was read from a line."""

    @property
    def counts(self) -> bool:
        """Whether the run's numbers are part of tables, figures and verdicts."""
        return self.state == "finished" and not self.problem

    @property
    def reason(self) -> str:
        """Why the run's numbers are left out, in words; nothing where they count."""
        return "; ".join(part for part in (self.error, self.problem) if part)

    @property
    def score(self) -> float | None:
        """The last score."""
        return self.evaluations[-1]["eval/score"] if self.evaluations else None

    @property
    def start_score(self) -> float | None:
        """The score before the first step."""
        return self.evaluations[0]["eval/score"] if self.evaluations else None

    @property
    def video(self) -> str | None:
        """The run's video as base64, if `suite evaluate --video` made one."""
        path = self.folder.path / "video.mp4" if self.folder is not None else None
        if path is None or not path.is_file() or path.stat().st_size > LARGEST_VIDEO:
            return None
        return base64.b64encode(path.read_bytes()).decode()

    @cached_property
    def examples(self) -> list[dict[str, Any]]:
        """The policy's outputs at the last evaluation, where the domain shows them."""
        return examples_of(self.folder) if self.folder is not None else []

    @property
    def environment(self) -> dict[str, Any] | None:
        """Commit, Python and packages; None where they are not known."""
        return environment_of(self.folder) if self.folder is not None else None

    @property
    def row(self) -> dict[str, Any]:
        """The run's line in scores.csv."""
        last = self.evaluations[-1] if self.evaluations else {}
        values = (
            self.name, self.domain, self.task, self.objective, self.feedback, self.seed, self.state,
            last.get("step"), self.score, last.get("eval/kl"),
        )  # fmt: skip
        return dict(zip(COLUMNS, values, strict=True))


def record_of(config: Config, axes: Iterable[str], variant: str, grids: list[str]) -> RunRecord:
    """Read a run's folder; `axes` are the dotted keys that its sweep varies."""
    folder = RunFolder.of(config)
    found = read_run(folder)
    objective = config.objective
    strength = objective.strength(config.feedback)
    mean = config.domain.accepted_mean() if strength is not None else None
    if mean is not None:
        mean *= 1 - 2 * config.labels.flip  # theory §13
    return RunRecord(
        name=config.run_name,
        domain=config.domain.name,
        task=config.domain.task,
        objective=objective.name,
        feedback=config.feedback,
        seed=config.seed,
        variant=variant,
        state=found.state,
        point={axis: value_of(config, axis) for axis in axes},
        evaluations=found.evaluations,
        grids=grids,
        alpha=strength and strength.alpha,
        beta=strength and strength.beta,
        gaussian_beta=(
            None
            if mean is None or strength is None
            else smallest_gaussian_beta(mean, strength.alpha, strength.covariance_weight)
        ),
        reject_share=found.reject_share,
        commit=found.commit,
        error=found.error,
        problem=found.problem,
        notes=found.notes,
        folder=folder,
    )


def value_of(config: Config, axis: str) -> Any:
    """Return the value at a dotted key; None where this run has no such key."""
    value: Any = config
    for part in axis.split("."):
        value = getattr(value, part, None)
    return value


def write_records(path: Path, records: Iterable[RunRecord]) -> None:
    """Write one JSON line per run, which `read_records` reads."""
    lines = [json_text(line_values(record)) for record in records]
    write_text(path, "".join(f"{line}\n" for line in lines))


def line_values(record: RunRecord) -> dict[str, Any]:
    """Return the values of a run's line; evaluations are stored by column."""
    values = {
        name: value
        for name, value in vars(record).items()
        if name not in ("evaluations", "folder", "examples", "notes")
        and value not in (None, "", [])
    }
    names = sorted({name for row in record.evaluations for name in row})
    columns = {n: [rounded(row.get(n)) for row in record.evaluations] for n in names}
    return values | {"evaluations": columns}


def rounded(value: float | None) -> float | None:
    """Round a number to the digits of the lines."""
    return None if value is None else float(f"{value:.{DIGITS}g}")


def read_records(path: Path) -> list[RunRecord]:
    """Read the records of a file; raises ConfigError where it is missing or damaged."""
    rows, broken = read_json_lines(path)
    if broken or not rows:
        problem = f"line {len(rows) + 1} is damaged" if broken else "no such file, or an empty one"
        raise ConfigError(f"{path}: {problem}; `suite claims` makes it")
    records = []
    for row in rows:
        columns = row.pop("evaluations")
        count = len(next(iter(columns.values()), []))
        evaluations = [
            {
                name: NOT_FINITE.get(column[i], column[i])
                for name, column in columns.items()
                if column[i] is not None
            }
            for i in range(count)
        ]
        records.append(RunRecord(**row, evaluations=evaluations))
    return records
