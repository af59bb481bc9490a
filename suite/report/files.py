"""The files of a report: all are made first, then written; a fuller report is kept aside."""

import csv
import io
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from suite.system.files import replaced_file, write_bytes

SCORES = "scores.csv"
ASIDE = "fuller_report"
"""The folder of an earlier report that more runs had finished for."""
PARTS = ("report.md", "report.html", SCORES, "figures")


def keep_fuller(folder: Path, finished: int) -> str:
    """Copy a report of more finished runs aside before it is replaced; return what to tell.

    A copy that has still more runs than that report stays.
    """
    before, aside = finished_runs(folder), finished_runs(folder / ASIDE)
    if before > max(finished, aside):
        copy_report(folder, folder / ASIDE)
        logging.getLogger(__name__).warning(
            "%s: the report that was here had %d finished runs, and this one has %d: it was kept"
            " in %s",
            *(folder, before, finished, folder / ASIDE),
        )
    if (kept := finished_runs(folder / ASIDE)) <= finished:
        return ""
    return (
        f"An earlier report had {kept} finished runs, and this one has {finished}: the earlier one"
        f" is in {ASIDE}/. Runs are found by their names, which change with the configuration."
    )


def finished_runs(folder: Path) -> int:
    """Return the number of finished runs in a folder's scores; 0 where it holds no report."""
    try:
        text = (folder / SCORES).read_text(encoding="utf-8", errors="replace")
        return sum(row.get("status") == "finished" for row in csv.DictReader(io.StringIO(text)))
    except (OSError, csv.Error):
        return 0


def copy_report(folder: Path, target: Path) -> None:
    """Copy a report's files; the scores come last, for they tell that a copy is whole."""
    target.mkdir(exist_ok=True)
    (target / SCORES).unlink(missing_ok=True)
    for name in PARTS:
        source = folder / name
        files = sorted(p for p in source.glob("*") if p.is_file()) if source.is_dir() else [source]
        for path in files:
            if not path.is_file() or path.name.startswith("."):
                continue
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(exist_ok=True)
            if name != SCORES:
                with replaced_file(copy) as temporary:
                    shutil.copyfile(path, temporary)
    with replaced_file(target / SCORES) as temporary:
        shutil.copyfile(folder / SCORES, temporary)


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write a report's files, each of which is old or new at any time; the scores come last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(contents, key=lambda name: (name == SCORES, name)):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, contents[name])
