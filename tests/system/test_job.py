"""The scheduler's job of a process."""

import os

import pytest

from suite.system.job import choose_gpu


def test_each_worker_of_a_job_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(worker: int) -> str:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
        monkeypatch.setenv("SLURM_LOCALID", str(worker))
        choose_gpu()
        return os.environ["CUDA_VISIBLE_DEVICES"]

    assert chosen(1) == "2,5", "outside of a job nothing is changed"
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert [chosen(worker) for worker in range(3)] == ["2", "5", "2"]
