"""Rows of metrics that a process appends after another one took its run over."""

from pathlib import Path

import pytest

from suite.runs.metrics import MetricsFile


@pytest.mark.parametrize("late", [0, 1, 3])
def test_rows_of_a_process_that_lost_the_run_are_dropped(tmp_path: Path, late: int) -> None:
    path = tmp_path / "metrics.jsonl"
    former, owner = MetricsFile(path), MetricsFile(path)
    former.append({"step": 1})
    owner.cut(former.mark())
    owner.append({"step": 2})
    for step in range(late):
        with path.open("a") as file:  # between its check of the lease and the write
            file.write(f'{{"step": {90 + step}}}\n')
    owner.append({"step": 3})
    assert [row["step"] for row in owner.rows()] == [1, 2, 3]
    with path.open("a") as file:
        file.write('{"step": 99}\n')
    assert owner.mark()["rows"] == 3
    assert owner.fits(owner.mark())


def test_rows_that_are_gone_end_the_attempt(tmp_path: Path) -> None:
    rows = MetricsFile(tmp_path / "metrics.jsonl")
    rows.append({"step": 1})
    rows.path.write_text("")
    with pytest.raises(OSError, match="was cut by another process"):
        rows.append({"step": 2})
