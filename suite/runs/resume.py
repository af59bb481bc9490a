"""Where a further attempt begins: the newest checkpoint whose rows of metrics are there."""

import json
import logging
from pathlib import Path

from suite.config.fields import ConfigError
from suite.runs.checkpoints import (
    NEXT,
    Checkpoint,
    checkpoint_files,
    promote,
    read_checkpoint,
    set_aside,
)
from suite.runs.folder import RunFolder

logger = logging.getLogger(__name__)


def resume_point(folder: RunFolder, checkpoint_every: int) -> tuple[Path | None, int]:
    """Return the checkpoint to continue from and its step; drops the later rows of metrics.

    Damaged checkpoints, and those of other runs, are kept under another name. Raises ConfigError
    where a checkpoint is whole and its rows of metrics are not, and OSError or MemoryError where a
    file cannot be read: nothing is changed then.
    """
    name = folder.path.name
    whole, unusable = sort_checkpoints(folder)
    chosen = choose(folder, whole) if whole else None
    for path, reason in unusable:
        kept = set_aside(path)
        logger.warning("%s %s and was passed over; it is kept as %s", path, reason, kept.name)
    if chosen is None:
        keep_rows(folder, checkpoint_every)
        logger.info("%s starts%s", name, " again: no checkpoint is whole" if unusable else "")
        return None, 0
    mark = chosen.metrics or folder.metrics_file.mark_at(chosen.step)
    dropped = folder.metrics_file.cut(mark)
    logger.info(
        "%s continues from step %s; %s later rows of metrics were dropped",
        *(name, chosen.step, dropped),
    )
    if chosen.path.name == NEXT:  # a kill came between saving and renaming
        return promote(folder.checkpoints), chosen.step
    return chosen.path, chosen.step


def sort_checkpoints(folder: RunFolder) -> tuple[list[Checkpoint], list[tuple[Path, str]]]:
    """Return the whole checkpoints of a run, newest first, and the others with the reason."""
    whole, unusable = [], []
    for path in checkpoint_files(folder.checkpoints):
        found = read_checkpoint(path)
        if found is None:
            unusable.append((path, "is damaged"))
        elif found.run not in (None, folder.path.name):
            unusable.append((path, f"is of the run {found.run}"))
        else:
            whole.append(found)
    return sorted(whole, key=lambda found: -found.step), unusable


def choose(folder: RunFolder, whole: list[Checkpoint]) -> Checkpoint:
    """Return the newest checkpoint whose rows of metrics are all there; raises ConfigError."""
    for found in whole:
        if found.metrics is None:
            folder.metrics_file.mark_at(found.step)  # raises ConfigError for a broken row
            return found
        if folder.metrics_file.fits(found.metrics):
            if found is not whole[0]:
                logger.warning(
                    "%s: the rows of %s are damaged or missing, those of %s are whole",
                    *(folder.metrics_path, whole[0].path.name, found.path.name),
                )
            return found
    newest = whole[0]
    raise ConfigError(
        f"{folder.metrics_path} does not begin with the {newest.metrics['rows']} rows that"
        f" {newest.path.name} (step {newest.step}) was saved with; put them back, or move the run's"
        " folder away to train it again"
    )


def keep_rows(folder: RunFolder, checkpoint_every: int) -> None:
    """Begin the metrics of a run that starts again; rows of a lost checkpoint are kept aside."""
    path = folder.metrics_path
    if path.is_dir() or any(row.get("step", 0) > checkpoint_every for row in folder.metrics()):
        kept = set_aside(path)
        logger.warning("%s: its checkpoints are gone; its rows are kept as %s", path, kept.name)
    path.write_bytes(b"")


def check_summary(folder: RunFolder) -> None:
    """Raise ConfigError where the summary of a finished run is not that of its metrics."""
    summary = folder.summary() or {}
    for name, value in folder.outcome().items():
        if name in summary and json.dumps(summary[name]) != json.dumps(value):  # NaN equals NaN
            raise ConfigError(
                f"{folder.path / 'summary.json'} says {name} {summary[name]}, and"
                f" {folder.metrics_path.name} {value}; put back the file that was changed, or"
                " remove summary.json to have the end of the run written again"
            )
