"""A cluster profile as submitit's parameters, and sbatch's messages; without SLURM."""

import re
from pathlib import Path

import pytest
from submitit.slurm.slurm import _make_sbatch_string

from suite.config.fields import ConfigError
from suite.sweeps.slurm_executor import sbatch_errors, submitit_parameters
from suite.sweeps.slurm_options import is_of_the_work
from suite.sweeps.slurm_profile import Profile, load_profile
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


def script(tmp_path: Path, text: str) -> list[str]:
    """Return the #SBATCH options and srun's arguments of a job, as `name=value`."""
    (tmp_path / "site.yaml").write_text(text)
    profile = load_profile(str(tmp_path / "site.yaml"))
    sweep = load_sweep(ROOT / "configs/sweeps/bandit.yaml", [f"results_dir={tmp_path}"])
    parameters = submitit_parameters(sweep, profile)
    lines = _make_sbatch_string("python", tmp_path, **parameters).splitlines()
    options = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH --")]
    return options + [word for line in lines if line.startswith("srun") for word in line.split()]


OPTIONS = [
    ("mem-per-cpu: 3968M", ["mem-per-cpu=3968M"], ["mem="]),
    ("mem_per_gpu: 40G", ["mem-per-gpu=40G"], ["mem=", "mem_per"]),
    ("--mem: '0'", ["mem=0"], ["mem=8192MB"]),
    ("MEM-PER-CPU: 1G", ["mem-per-cpu=1G"], ["mem="]),
    ("cpus-per-gpu: 8", ["cpus-per-gpu=8", "--cpus-per-gpu=8"], ["cpus-per-task="]),
    ("cpus_per_task: 6", ["cpus-per-task=6", "--cpus-per-task=6"], ["cpus-per-task=2", "cpus_per"]),
    ("gpus-per-node: h100:1", ["gpus-per-node=h100:1"], ["gres"]),
    ("gres: gpu:a100:1", ["gres=gpu:a100:1"], ["gres=gpu:2"]),
    ("gres: nvme:100", ["gres=gpu:2,nvme:100"], []),
    ("time: 2-00:00:00", ["time=2-00:00:00"], ["time=60"]),
    ("time-min: 30", ["time=60", "time-min=30"], []),
    ("exclusive: true", ["exclusive"], ["exclusive="]),
    ("requeue: false", [], ["requeue"]),
    ("no-requeue: true", ["no-requeue"], ["requeue"]),
    ("reservation: friday", ["reservation=friday", "mem=8192MB"], []),
    ("comment: a b (c) \"d\"", ["comment='a b (c) \"d\"'"], []),
]  # fmt: skip


@pytest.mark.parametrize(("option", "there", "gone"), OPTIONS, ids=[o[0] for o in OPTIONS])
def test_an_option_replaces_what_the_suite_would_ask_for(
    option: str, there: list[str], gone: list[str], tmp_path: Path
) -> None:
    gpus = "" if option.startswith("gpus") else "gpus: '2'\n"
    lines = script(tmp_path, f"{gpus}options: {{{option}}}\n")
    assert set(there) <= set(lines)
    assert not [line for line in lines if line.startswith(tuple(gone))] or not gone
    names = [line.partition("=")[0] for line in lines]
    assert len(names) == len(set(names)), "no option twice"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("options: {mem: 1G, mem-per-cpu: 1G}", "exclude each other"),
        ("options: {mem_per_cpu: 1G, mem-per-cpu: 2G}", "are the same option"),
        ("options: {exclusive: true, share: true}", "exclude each other"),
        ("memory_gb: 4\noptions: {mem-per-gpu: 1G}", "memory_gb and options.mem-per-gpu say"),
        ("cpus: 4\noptions: {cpus-per-gpu: 1}", "cpus and options.cpus-per-gpu say"),
        ("gpus: '1'\noptions: {gpus-per-node: '1'}", "gpus and options.gpus-per-node say"),
        ("partition: a\noptions: {partition: b}", "partition and options.partition say"),
        ("mail_type: END\noptions: {mail-type: FAIL}", "mail_type and options.mail-type say"),
        ("options: {nodes: 2}", "options.nodes cannot be given: trainer.num_nodes"),
        ("options: {ntasks: 2}", "options.ntasks cannot be given"),
        ("options: {output: x}", "options.output cannot be given"),
        ("options: {c: 2}", "must have long names"),
        ('options: {"comment=x\\ntouch": 2}', "must have long names"),
        ('options: {comment: "x\\ntouch /tmp/y"}', "must be one line"),
        ('partition: "x\\ntouch /tmp/y"', "partition must be one line"),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        script(tmp_path, text)


def test_the_job_of_the_report_waits_for_the_others_whatever_the_options_say() -> None:
    assert is_of_the_work("dependency")
    assert is_of_the_work("gpus_per_node")
    assert not is_of_the_work("mem-per-cpu")
