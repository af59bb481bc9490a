"""The recorded jobs of a sweep, joined with SLURM's answers; without SLURM."""

from pathlib import Path

import pytest

from suite.sweeps import slurm_jobs
from suite.sweeps.slurm_jobs import expand_id


def test_only_recorded_jobs_of_the_sweeps_name_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue = (
        "1_0|RUNNING|None|suite-mine\n1_1|PENDING|Resources|suite-mine\n2|RUNNING|None|suite-x\n"
    )
    squeue += "3|COMPLETED|None|suite-mine\n4|RUNNING|None|suite-mine\n"
    monkeypatch.setattr(slurm_jobs, "run_slurm", lambda *command: squeue)
    jobs = slurm_jobs.Jobs(tmp_path / "mine")
    jobs.add({"1_0": ["a", "b"], "1_1": ["c"]})
    jobs.add({"2": ["d"]})
    jobs.add({"3": ["e"]})
    expected = {"a": "1_0 RUNNING", "b": "1_0 RUNNING", "c": "1_1 PENDING (Resources)"}
    assert jobs.by_run(jobs.active()) == expected


@pytest.mark.parametrize(
    ("name", "elements"),
    [
        ("8", ["8"]),
        ("17_3", ["17_3"]),
        ("17_[0-2,5%4]", ["17_0", "17_1", "17_2", "17_5"]),
        ("17_[0-6:3%4]", ["17_0", "17_3", "17_6"]),
        ("17_[1,3,...]", ["17_1", "17_3"]),
    ],
)
def test_an_id_of_several_elements_is_expanded(name: str, elements: list[str]) -> None:
    assert expand_id(name) == elements
