"""The records of a claim's sweeps: one JSON-lines file per sweep, committed with the page."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite.config.examples import sweep_path
from suite.config.fields import ConfigError
from suite.report.comparison import collect
from suite.report.records import RunRecord, read_records, write_records
from suite.sweeps.choices import choices_of, is_waiting, with_choices
from suite.sweeps.spec import Sweep, read_sweep_file, resized

SweepRecords = dict[str, list[RunRecord]]
"""The records of each sweep, by the sweep's name."""
SizeChanges = Mapping[str, dict[str, Any]]
"""The values of a sweep's axes and keys that each size changes."""


def save_records(sweep: Sweep, name: str, folder: Path) -> bool:
    """Write the records of a sweep to FOLDER/NAME.jsonl once all of its runs have ended.

    Until then an existing file stays as it is. Returns whether all runs have ended. Raises
    ConfigError where the existing file holds more finished runs.
    """
    choices = choices_of(sweep)
    if is_waiting(choices):
        return False
    records = collect(with_choices(sweep, choices))
    if any(record.state not in ("finished", "failed") for record in records):
        return False
    path = folder / f"{name}.jsonl"
    now = count_finished(records)
    before = count_finished(read_records(path)) if path.exists() else 0
    if now < before:
        raise ConfigError(
            f"{path} holds {before} finished runs, and only {now} of {len(records)} finished now:"
            " it was left as it is; see why they failed, or move it away"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_records(path, records)
    return True


def count_finished(records: list[RunRecord]) -> int:
    """Return the number of finished runs."""
    return sum(record.counts for record in records)


def load_records(sweeps: Mapping[str, SizeChanges], folder: Path, size: str) -> SweepRecords:
    """Read the records of a claim's sweeps; a sweep that was not run yet has an empty list."""
    records = {}
    for name, changes in sweeps.items():
        path = folder / f"{name}.jsonl"
        stored = read_records(path) if path.exists() else []
        records[name] = add_grids(stored, sweep_path(name), changes.get(size))
    return records


def add_grids(
    records: list[RunRecord], sweep_file: Path, changes: dict[str, Any] | None
) -> list[RunRecord]:
    """Name the grids of records whose stored lines do not.

    Lines had no field `grids` at first. The names of those runs are of no use here: they carry
    signatures of earlier configurations. A run counts as part of each grid that holds its values,
    which is exact for sweeps whose grids vary the same keys, such as `bandit_beta`.
    """
    if all(record.grids for record in records):
        return records
    grids = resized(read_sweep_file(sweep_file), changes or {}).grids
    return [
        record
        if record.grids
        else dataclasses.replace(record, grids=matching_grids(record.point, grids))
        for record in records
    ]


def matching_grids(
    point: Mapping[str, Any], grids: Mapping[str, Mapping[str, list[Any]]]
) -> list[str]:
    """Return the names of the grids whose axes hold a run's values."""
    return [
        name
        for name, axes in grids.items()
        if all(point.get(axis) in values for axis, values in axes.items())
    ]
