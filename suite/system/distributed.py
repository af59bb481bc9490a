"""Several processes that work on one run: they meet, and each takes its part of every batch.

All ranks draw the same random numbers and act alike; what differs is which groups of a batch they
compute. Without ranks everything here is the identity.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from suite.config.fields import ConfigError
from suite.config.schema import TrainerConfig
from suite.system.files import write_text

MEETING_SECONDS = 300.0  # for ranks whose nodes start at different times
WAITING = timedelta(minutes=30)  # of one rank for another, as while it writes a checkpoint

T = TypeVar("T", Tensor, list[Any])


def world_size() -> int:
    """Return how many ranks work together, 1 for a process alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return which of them this process is, 0 for a process alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_slice(items: T) -> T:
    """Return this rank's part of what is there for all, cut along the first axis."""
    size = len(items) // world_size()
    return items[rank() * size : (rank() + 1) * size]


def mean(value: float) -> float:
    """Return the mean over the ranks of a number."""
    return float(sum(gathered(value))) / world_size() if world_size() > 1 else value


def any_rank(value: bool) -> bool:
    """Tell whether the answer is yes for any rank."""
    return any(gathered(value)) if world_size() > 1 else value


def gathered(value: float) -> list[float]:
    """Return every rank's number; through the CPU, which both of our backends' groups serve."""
    every = [torch.zeros((), dtype=torch.float64) for _ in range(world_size())]
    dist.all_gather(every, torch.tensor(float(value), dtype=torch.float64))
    return [each.item() for each in every]


def is_sharded(network: nn.Module) -> bool:
    """Tell whether each rank holds only a part of a network, so that all must call it together."""
    return any(isinstance(parameter, DTensor) for parameter in network.parameters())


def first_text(text: str | None) -> str:
    """Return the first text that a rank has; one must have some."""
    texts: list[Any] = [text] * world_size()
    if world_size() > 1:
        dist.all_gather_object(texts, text)
    return str(next(found for found in texts if found))


def lost_other_rank(error: Exception) -> bool:
    """Tell whether an error says that another rank is gone, which is no fault of the run."""
    words = ("gloo", "NCCL")
    named = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    return world_size() > 1 and (isinstance(error, dist.DistError) or named)


def broadcast(message: Any) -> Any:
    """Return on every rank what rank 0 gave; the others' arguments do not matter."""
    if world_size() == 1:
        return message
    box = [message]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


@contextmanager
def process_group(settings: TrainerConfig, folder: Path) -> Iterator[None]:
    """Let the ranks of a run meet; raises ConfigError where there are not as many as asked for."""
    if settings.ranks == 1:
        yield
        return
    mine, found = place()
    if found != settings.ranks:
        raise ConfigError(
            f"trainer.devices={settings.devices} and trainer.num_nodes={settings.num_nodes} need"
            f" {settings.ranks} processes, found {found}; `suite sweep --cluster` starts them, or"
            f" torchrun"
        )
    # Where Lightning looks.
    os.environ.setdefault("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))
    os.environ.setdefault("GROUP_RANK", os.environ.get("SLURM_NODEID", "0"))
    os.environ.update(RANK=str(mine), WORLD_SIZE=str(found))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    path = meeting_point(folder)
    store = rendezvous(mine, found, path)
    dist.init_process_group(backend, store=store, rank=mine, world_size=found, timeout=WAITING)
    path.unlink(missing_ok=True)
    yield
    # Not after an error, for it may wait for ranks that are gone; and together, for a rank that
    # finds the others' connections closed may abort.
    dist.barrier()
    dist.destroy_process_group()


def place() -> tuple[int, int]:
    """Return rank and number of ranks as the launcher says: torchrun, or else SLURM's srun."""
    names = ("RANK", "WORLD_SIZE") if "RANK" in os.environ else ("SLURM_PROCID", "SLURM_NTASKS")
    return int(os.environ.get(names[0], 0)), int(os.environ.get(names[1], 1))


def device(settings: TrainerConfig) -> torch.device:
    """Return where this process computes."""
    if settings.accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) if world_size() > 1 else 0)


def meeting_point(folder: Path) -> Path:
    """Return the file through which the ranks of this very attempt find each other."""
    names = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "TORCHELASTIC_RUN_ID", "MASTER_PORT")
    attempt = [os.environ[name] for name in names if name in os.environ]
    return folder / f".meeting-{'-'.join(attempt)}"


def rendezvous(mine: int, found: int, path: Path) -> Any:
    """Return the store of the process group.

    Rank 0 takes a free port, and says which in a file: ports that are computed from a job's number
    may be taken.
    """
    patience = timedelta(seconds=MEETING_SECONDS)
    if mine == 0:
        host = own_address()
        store: Any = dist.TCPStore(  # type: ignore[attr-defined]
            host, 0, found, True, patience, wait_for_workers=False
        )
        write_text(path, f"{host} {store.port}")
        return store
    deadline = time.monotonic() + MEETING_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise ConfigError(f"rank {mine} waited {MEETING_SECONDS:.0f} s for rank 0 at {path}")
        time.sleep(0.05)
    host, port = path.read_text().split()
    joined: Any = dist.TCPStore(  # type: ignore[attr-defined]
        host, int(port), found, False, patience
    )
    return joined


def own_address() -> str:
    """Return where other nodes reach this one: a launcher's word if it means this node, or by name.

    srun's is where srun ran, which is the first node only in a batch job.
    """
    told = [os.environ.get(name) for name in ("MASTER_ADDR", "SLURM_LAUNCH_NODE_IPADDR")]
    for address in filter(None, [*told, socket.gethostname()]):
        try:
            with socket.create_server((address, 0)):
                return address
        except OSError:
            continue
    return "127.0.0.1"
