"""A run's metrics.jsonl: rows are appended, and a checkpoint marks the rows that belong to it."""

import hashlib
import logging
import os
from pathlib import Path
from typing import Any, TypedDict

from suite.config.fields import ConfigError
from suite.system.files import append_line, json_object, read_json_lines, sync
from suite.system.json_text import json_text, with_numbers

logger = logging.getLogger(__name__)


class Mark(TypedDict):
    """The state of the file at a checkpoint."""

    rows: int
    bytes: int
    sha256: str


class MetricsFile:
    """The rows of a run: one JSON object per line, with its `step`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.count = 0
        self.hash = hashlib.sha256()  # of the first `size` bytes
        self.end: int | None = None  # of what this process wrote or kept; None before

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows up to the first broken one."""
        return [with_numbers(row) for row in read_json_lines(self.path)[0]]

    def append(self, row: dict[str, Any]) -> None:
        """Append a row after those of this process; raises OSError where rows are gone."""
        self.drop_late_rows()
        append_line(self.path, json_text(row))
        self.end = self.path.stat().st_size

    def drop_late_rows(self) -> None:
        """Drop rows of a process that was suspended when this one took the run over."""
        if self.end is None:
            return
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < self.end:
            raise OSError(f"{self.path} was cut by another process while the run wrote it")
        if size > self.end:
            logger.warning("%s: rows of a process that lost the run were dropped", self.path)
            os.truncate(self.path, self.end)

    def mark(self) -> Mark:
        """Bring the rows to the disk, and return the state of the file.

        Only what was appended since the last mark is read.
        """
        self.drop_late_rows()
        if not self.path.exists():
            return {"rows": 0, "bytes": 0, "sha256": self.hash.hexdigest()}
        sync(self.path)
        with self.path.open("rb") as file:
            file.seek(self.size)
            added = file.read()
        self.hash.update(added)
        self.size += len(added)
        self.count += added.count(b"\n")
        return {"rows": self.count, "bytes": self.size, "sha256": self.hash.hexdigest()}

    def fits(self, mark: Mark) -> bool:
        """Return whether the file begins with exactly the rows of a mark; raises OSError."""
        if not self.path.exists():
            return mark["bytes"] == 0
        with self.path.open("rb") as file:
            content = file.read(mark["bytes"])
        return hashlib.sha256(content).hexdigest() == mark["sha256"]

    def cut(self, mark: Mark) -> int:
        """Drop what follows the rows of a mark; return the number of lines that were dropped."""
        self.size, self.count, self.hash = 0, 0, hashlib.sha256()
        self.end = mark["bytes"]
        if not self.path.exists():
            return 0
        dropped = self.path.read_bytes()[mark["bytes"] :]
        if dropped:
            os.truncate(self.path, mark["bytes"])
            sync(self.path)
        return len(dropped.splitlines())

    def mark_at(self, step: int) -> Mark:
        """Return the mark after the last row up to `step`, of checkpoints without one.

        Raises ConfigError where such a row follows a broken one.
        """
        content = self.path.read_bytes() if self.path.exists() else b""
        end, count, broken = 0, 0, None
        for number, line in enumerate(content.splitlines(keepends=True), 1):
            row = json_object(line)
            if row is None or not isinstance(row.get("step"), int):
                broken = broken or number
            elif row["step"] <= step:
                if broken is not None:
                    raise ConfigError(
                        f"{self.path}, line {broken}: is no row of metrics, and rows of the"
                        f" checkpoint at step {step} follow it; mend the line, or move the run's"
                        " folder away to train it again"
                    )
                end, count = end + len(line), count + 1
        digest = hashlib.sha256(content[:end]).hexdigest()
        return {"rows": count, "bytes": end, "sha256": digest}
