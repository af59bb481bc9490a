"""The scheduler's job that this process is a part of."""

import os


def own_job() -> str | None:
    """Return the id of the job that this process is a part of, if a launcher submitted it."""
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return None
    array, element = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{element}" if array else os.environ.get("SLURM_JOB_ID")


def choose_gpu() -> None:
    """Give each of a job's workers a GPU of its own; SLURM shows all of the job's to all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if own_job() is not None and len(visible) > 1:
        worker = int(os.environ.get("SLURM_LOCALID", 0))
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[worker % len(visible)]
