"""A run as tables and figures see it: from its folder, or from a line of a file that was committed.

The line holds what was measured and what the run's settings mean, so that figures can be drawn
again when neither the run nor its configuration's format exists any more.
"""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from suite.config.fields import ConfigError
from suite.config.schema import Config
from suite.objectives.bounds import smallest_gaussian_beta
from suite.runs.folder import RunFolder, State
from suite.system.files import read_json, read_json_lines, write_text

DIGITS = 6  # significant ones of what is stored
REJECTED = "train/reference_reject_share"
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
    """What comparisons group by: feedback mode or objective, and other keys that grids vary."""
    state: State
    point: dict[str, Any]
    """The keys that the sweep varies, with this run's values."""
    evaluations: list[dict[str, float]] = field(repr=False)
    """The rows of metrics that hold a score."""
    alpha: float | None = None
    """PMPO's α."""
    beta: float | None = None
    """PMPO's β, where it is a number."""
    gaussian_beta: float | None = None
    """The smallest bounded β in closed form, of Gaussian policies (theory §11)."""
    reject_share: float | None = None
    """The share of rejected samples that the run measured first."""
    commit: str = ""
    error: str = ""
    """Why the run failed, or nothing."""
    folder: RunFolder | None = None
    """Where the run is, unless it was read from a line."""

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
        if path is None or not path.exists():
            return None
        return base64.b64encode(path.read_bytes()).decode()

    @cached_property
    def examples(self) -> list[dict[str, Any]]:
        """What the policy did at the last evaluation, where that can be shown."""
        return self.folder.examples() if self.folder is not None else []

    @property
    def row(self) -> dict[str, Any]:
        """The run's line in scores.csv."""
        last = self.evaluations[-1] if self.evaluations else {}
        values = (
            self.name, self.domain, self.task, self.objective, self.feedback, self.seed, self.state,
            last.get("step"), self.score, last.get("eval/kl"),
        )  # fmt: skip
        return dict(zip(COLUMNS, values, strict=True))


def record_of(config: Config, axes: Iterable[str], variant: str) -> RunRecord:
    """Read a run's folder; `axes` are the dotted keys that its sweep varies."""
    folder = RunFolder.of(config)
    metrics = folder.metrics()
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
        state=folder.state(),
        point={axis: value_of(config, axis) for axis in axes},
        evaluations=[row for row in metrics if "eval/score" in row],
        alpha=strength and strength.alpha,
        beta=strength and strength.beta,
        gaussian_beta=(
            None
            if mean is None or strength is None
            else smallest_gaussian_beta(mean, strength.alpha, strength.covariance_weight)
        ),
        reject_share=next((row[REJECTED] for row in metrics if REJECTED in row), None),
        commit=str((read_json(folder.path / "environment.json") or {}).get("git") or ""),
        error=str((folder.summary() or {}).get("error") or ""),
        folder=folder,
    )


def value_of(config: Config, axis: str) -> Any:
    """Return the value at a dotted key; None where this run's objective has no such key."""
    value: Any = config
    for part in axis.split("."):
        value = getattr(value, part, None)
    return value


def store(path: Path, records: Iterable[RunRecord]) -> None:
    """Write one line per run, from which `stored` makes the record again."""
    lines = [json.dumps(line_of(record)) for record in records]
    write_text(path, "".join(f"{line}\n" for line in lines))


def line_of(record: RunRecord) -> dict[str, Any]:
    """Return what is stored of a run; evaluations by column."""
    values = {
        name: value
        for name, value in vars(record).items()
        if name not in ("evaluations", "folder", "examples") and value not in (None, "")
    }
    names = sorted({name for row in record.evaluations for name in row})
    columns = {n: [rounded(row.get(n)) for row in record.evaluations] for n in names}
    return values | {"evaluations": columns}


def rounded(value: float | None) -> float | None:
    """Return a number with as many digits as are stored."""
    return None if value is None else float(f"{value:.{DIGITS}g}")


def stored(path: Path) -> list[RunRecord]:
    """Read the records of a file; raises ConfigError where it is missing or damaged."""
    rows, broken = read_json_lines(path)
    if broken or not rows:
        what = f"line {len(rows) + 1} is damaged" if broken else "no such file, or an empty one"
        raise ConfigError(f"{path}: {what}; `suite claims` makes it")
    records = []
    for row in rows:
        columns = row.pop("evaluations")
        count = len(next(iter(columns.values()), []))
        evaluations = [
            {name: column[i] for name, column in columns.items() if column[i] is not None}
            for i in range(count)
        ]
        records.append(RunRecord(**row, evaluations=evaluations))
    return records
