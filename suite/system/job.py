"""The scheduler's job that this process is a part of."""

import os


def current_job() -> str | None:
    """Return the id of this process's SLURM job; None where no launcher submitted it."""
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return None
    array, element = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{element}" if array else os.environ.get("SLURM_JOB_ID")


def choose_gpu() -> None:
    """Give each of a job's workers a GPU of its own; SLURM shows all of the job's GPUs to all."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if current_job() is not None and len(gpus) > 1:
        worker = int(os.environ.get("SLURM_LOCALID", 0))
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[worker % len(gpus)]
