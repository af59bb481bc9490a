"""Cluster profiles: typed, checked, documented; no SLURM is needed."""

import dataclasses
import os
from pathlib import Path

import pytest

from suite.config.fields import ConfigError
from suite.runs.environment import git_commit
from suite.sweeps import slurm_jobs, slurm_submit
from suite.sweeps.slurm_executor import sbatch_errors, submitit_parameters
from suite.sweeps.slurm_profile import Profile, load_profile
from suite.sweeps.spec import load_sweep
from suite.sweeps.worker import warn_of_other_code
from suite.system.job import choose_gpu
from tests.conftest import ROOT


def profile(folder: Path, text: str) -> Profile:
    path = folder / "site.yaml"
    path.write_text(text)
    return load_profile(str(path))


@pytest.mark.parametrize("path", sorted((ROOT / "slurm").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_profile_of_ours_loads(path: Path) -> None:
    assert load_profile(str(path)).scheduler == ("none" if path.stem == "local" else "slurm")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partitoin: gpu", r"site.yaml: unknown key partitoin; did you mean partition\?"),
        ("minutes: soon", r"site.yaml: minutes: .*soon"),
        ("gpus: some", r"gpus must be a number, or a type and a number as in h100:1; found 'some'"),
        ("runs_per_job: 0", r"runs_per_job must be at least 1, found 0"),
        ("side_by_side: 2", r"side_by_side=2 must be at most runs_per_job=1"),
        ("minutes: 2", r"notice_seconds=120 must be less than the limit of minutes=2"),
        ("options: fast", r"options must map sbatch options to values, found 'fast'"),
        ("minutes: [", r"site.yaml, line \d: not valid YAML"),
    ],
)
def test_a_mistake_in_a_profile_is_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        profile(tmp_path, text)


def test_an_unknown_profile_lists_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=r"slurm/h200.yaml: no such file; .* h100, local, test"):
        load_profile("h200")


def test_a_profile_becomes_what_submitit_asks_sbatch_for(tmp_path: Path) -> None:
    found = submitit_parameters(
        load_sweep(ROOT / "configs/sweeps/bandit.yaml"),
        profile(tmp_path, "{gpus: h100:2, memory_gb: 1.5, runs_per_job: 3, options: {nice: 5}}"),
    )
    assert found["additional_parameters"] == {"requeue": True, "gres": "gpu:h100:2", "nice": "5"}
    assert (found["mem"], found["ntasks_per_node"], found["time"]) == ("1536MB", 3, 60)
    assert "partition" not in found
    without = submitit_parameters(
        load_sweep(ROOT / "configs/sweeps/bandit.yaml"), profile(tmp_path, "{gpus: 0}")
    )
    assert "gres" not in without["additional_parameters"]


def test_a_refusal_is_told_in_the_words_of_sbatch() -> None:
    words = "Command failed\nsbatch: error: no such thing\nsbatch: error: refused\nsome trace"
    assert sbatch_errors(words) == "no such thing; refused"
    assert sbatch_errors("it hangs\n") == "it hangs"


def test_the_workers_of_a_job_take_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(worker: int) -> str:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
        monkeypatch.setenv("SLURM_LOCALID", str(worker))
        choose_gpu()
        return os.environ["CUDA_VISIBLE_DEVICES"]

    assert chosen(1) == "2,5", "outside of a job nothing is changed"
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert [chosen(worker) for worker in range(3)] == ["2", "5", "2"]


def test_only_jobs_of_the_sweeps_name_are_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "1_0|RUNNING|None|suite-mine\n1_1|PENDING|Resources|suite-mine\n2|RUNNING|None|suite-x\n"
    told += "3|COMPLETED|None|suite-mine\n4|RUNNING|None|suite-mine\n"
    monkeypatch.setattr(slurm_jobs, "run_slurm", lambda *command: told)
    jobs = slurm_jobs.Jobs(tmp_path / "mine")
    jobs.add({"1_0": ["a", "b"], "1_1": ["c"]})
    jobs.add({"2": ["d"]})
    jobs.add({"3": ["e"]})
    expected = {"a": "1_0 RUNNING", "b": "1_0 RUNNING", "c": "1_1 PENDING (Resources)"}
    assert jobs.by_run(jobs.active()) == expected


def test_a_refusal_says_what_was_submitted_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = load_sweep(ROOT / "configs/sweeps/lm.yaml", [f"results_dir={tmp_path}"])
    calls: list[int] = []

    def array(sweep: object, profile: object, parts: list[list[Path]]) -> dict[str, list[str]]:
        calls.append(len(parts))
        if len(calls) == 2:
            raise ConfigError("sbatch refused the job: too many")
        return {f"5_{i}": [path.name for path in part] for i, part in enumerate(parts)}

    monkeypatch.setattr(slurm_submit, "submit_array", array)
    monkeypatch.setattr(slurm_submit, "max_array_size", lambda: 4)
    with pytest.raises(ConfigError, match="too many; 4 jobs were submitted before that"):
        slurm_submit.submit(sweep, Profile(), retry=False)
    assert calls == [4, 4]
    assert len(slurm_jobs.Jobs(sweep.folder).elements()) == 4


def test_a_job_says_that_the_code_changed_since_it_was_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [tmp_path / "mine/runs/a"]
    jobs = slurm_jobs.Jobs(tmp_path / "mine")
    jobs.add({"7_0": ["a"]}, commit=git_commit())
    jobs.add({"8_0": ["a"]}, commit="another")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    for job, said in (("7", ""), ("8", "was at another at submission")):
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", job)
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
        warn_of_other_code(runs)
        assert said in caplog.text
        assert bool(caplog.text) == bool(said)


def test_the_readme_explains_every_key() -> None:
    text = (ROOT / "slurm/README.md").read_text()
    for field in dataclasses.fields(Profile):
        assert f"`{field.name}`" in text
