"""Submitting to SLURM, with an executor that records what it is given; without SLURM."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from suite.config.fields import ConfigError
from suite.sweeps import slurm_jobs, slurm_submit
from suite.sweeps.slurm_profile import Profile
from suite.sweeps.spec import Sweep, load_sweep
from tests.conftest import ROOT


class RecordingExecutor:
    """Takes submitit's place, and keeps the settings and calls that it is given."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.calls: list[tuple[Any, ...]] = []

    def update_parameters(self, **settings: Any) -> None:
        self.settings |= settings

    def submit(self, *call: Any) -> SimpleNamespace:
        self.calls.append(call)
        return SimpleNamespace(job_id="9")


def write_page(sweep: Sweep, command: str) -> None:
    raise AssertionError("only a job calls it")


def test_the_report_waits_for_all_jobs_and_calls_what_the_caller_gave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = load_sweep(ROOT / "configs/sweeps/lm.yaml", [f"results_dir={tmp_path}"])
    profile = Profile(gpus="h100:2", runs_per_job=3)
    executor = RecordingExecutor()
    monkeypatch.setattr(slurm_submit, "make_executor", lambda sweep, profile: executor)
    jobs = ["7_0", "7_1", "8_0"]
    slurm_submit.submit_report(sweep, profile, jobs, write_page, "suite sweep lm")
    assert executor.calls == [(write_page, sweep, "suite sweep lm")]
    assert executor.settings["dependency"] == "afterany:7:8"
    assert (executor.settings["nodes"], executor.settings["ntasks_per_node"]) == (1, 1)
    assert "gres" not in executor.settings["additional_parameters"]
    assert slurm_jobs.Jobs(sweep.folder).elements() == {"9": []}, "it is cancelled with the others"


def test_a_refusal_says_what_was_submitted_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = load_sweep(ROOT / "configs/sweeps/lm.yaml", [f"results_dir={tmp_path}"])
    sizes: list[int] = []

    def submit_array(
        sweep: Sweep, profile: Profile, elements: list[list[Path]]
    ) -> dict[str, list[str]]:
        sizes.append(len(elements))
        if len(sizes) == 2:
            raise ConfigError("sbatch refused the job: too many")
        return {f"5_{i}": [path.name for path in paths] for i, paths in enumerate(elements)}

    monkeypatch.setattr(slurm_submit, "submit_array", submit_array)
    monkeypatch.setattr(slurm_submit, "max_array_size", lambda: 4)
    with pytest.raises(ConfigError, match="too many; 4 jobs were submitted before that"):
        slurm_submit.submit(sweep, Profile(), retry=False)
    assert sizes == [4, 4]
    assert len(slurm_jobs.Jobs(sweep.folder).elements()) == 4
