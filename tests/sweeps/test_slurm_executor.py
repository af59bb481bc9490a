"""A cluster profile as submitit's parameters, and sbatch's messages; without SLURM."""

from suite.sweeps.slurm_executor import sbatch_errors, submitit_parameters
from suite.sweeps.slurm_profile import Profile
from suite.sweeps.spec import load_sweep
from tests.conftest import ROOT


def test_a_profile_becomes_parameters_of_submitit() -> None:
    sweep = load_sweep(ROOT / "configs/sweeps/bandit.yaml")
    profile = Profile(gpus="h100:2", memory_gb=1.5, runs_per_job=3, options={"nice": "5"})
    parameters = submitit_parameters(sweep, profile)
    further = {"requeue": True, "gres": "gpu:h100:2", "nice": "5"}
    assert parameters["additional_parameters"] == further
    assert parameters["mem"] == "1536MB"
    assert (parameters["ntasks_per_node"], parameters["time"]) == (3, 60)
    assert "partition" not in parameters
    without = submitit_parameters(sweep, Profile(gpus="0"))
    assert "gres" not in without["additional_parameters"]


def test_a_refusal_is_reported_with_the_messages_of_sbatch() -> None:
    output = "Command failed\nsbatch: error: no such thing\nsbatch: error: refused\nsome trace"
    assert sbatch_errors(output) == "no such thing; refused"
    assert sbatch_errors("it hangs\n") == "it hangs"
