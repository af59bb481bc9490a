"""The files of a run after damage, and who may write them."""

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from suite.runs.folder import RunFolder
from suite.runs.lease import LeaseHeld
from suite.system.files import read_json, read_json_lines, write_json


def test_a_torn_metrics_line_ends_the_rows_and_cutting_drops_later_ones(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (0, 5, 10, 15):
        run.log_metrics(step, {"eval/score": step / 3})
    with run.metrics_path.open("a") as file:
        file.write('{"step": 20, "eval/sc')
    assert read_json_lines(run.metrics_path)[1] == 1
    assert run.metrics_file.cut(run.metrics_file.mark_at(10)) == 2
    assert [row["step"] for row in run.metrics()] == [0, 5, 10]
    assert run.metrics()[2]["eval/score"] == 10 / 3, "numbers read back to the last bit"


def test_a_run_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_json(tmp_path / "progress.json", {"step": 1})
    assert run.state() == "interrupted"
    hold = (
        "import sys\nfrom pathlib import Path\nfrom suite.runs.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).lease():\n    print('held', flush=True)\n    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert run.state() == "running"
        with pytest.raises(LeaseHeld, match="in use by another process"), run.lease():
            pass
        other.kill()
        other.wait()
    assert run.state() == "interrupted", "the system frees a dead owner's claim"
    with run.lease():
        assert run.state() == "running"


def test_a_broken_summary_counts_as_none(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "summary.json").write_text('{"status": "fini')
    assert run.summary() is None
    assert run.state() == "queued"
    (tmp_path / "summary.json").write_text(json.dumps({"status": "finished"}))
    assert run.state() == "finished"


def test_a_run_keeps_the_moment_of_its_first_start(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.begin()
    first = run.started()
    assert abs((datetime.now().astimezone() - first).total_seconds()) < 60
    earlier = first - timedelta(days=40)
    facts = read_json(tmp_path / "environment.json") or {}
    write_json(tmp_path / "environment.json", facts | {"started": earlier.isoformat()})
    run.begin()
    assert run.started() == earlier, "a later attempt does not change it"


@pytest.mark.parametrize("facts", [{}, {"started": None}, {"started": "soon"}, {"started": 3}])
def test_a_run_without_it_began_with_its_first_attempt(
    tmp_path: Path, facts: dict[str, Any]
) -> None:
    run = RunFolder(tmp_path)
    write_json(tmp_path / "environment.json", facts)
    row = {"what": "began", "step": 0, "updated": 1_000_000_000.0}
    (tmp_path / "attempts.jsonl").write_text(f"{json.dumps(row)}\n")
    assert run.started().timestamp() == 1_000_000_000
    run.begin()
    assert run.started().timestamp() == 1_000_000_000
