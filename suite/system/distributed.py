"""Several processes that work on one run; each computes its part of every batch.

All ranks draw the same random numbers and act alike; they differ in the groups of a batch that
they compute. For a process alone every function here returns what it was given.
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
from suite.system.files import write_text

RENDEZVOUS_SECONDS = 300.0  # for ranks whose nodes start at different times
COLLECTIVE_TIMEOUT = timedelta(minutes=30)  # one rank may wait while another writes a checkpoint

T = TypeVar("T", Tensor, list[Any])


def world_size() -> int:
    """Return the number of ranks, 1 for a process alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process, 0 for a process alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_slice(items: T) -> T:
    """Return this rank's part of the items of all ranks, split along the first axis."""
    size = len(items) // world_size()
    return items[rank() * size : (rank() + 1) * size]


def mean_over_ranks(value: float) -> float:
    """Return the mean of a number over the ranks."""
    return float(sum(gather(value))) / world_size() if world_size() > 1 else value


def any_rank(value: bool) -> bool:
    """Return whether the value is true on any rank."""
    return any(gather(value)) if world_size() > 1 else value


def gather(value: float) -> list[float]:
    """Return the number of every rank; through the CPU, where both backends have a group."""
    numbers = [torch.zeros((), dtype=torch.float64) for _ in range(world_size())]
    dist.all_gather(numbers, torch.tensor(float(value), dtype=torch.float64))
    return [number.item() for number in numbers]


def is_sharded(network: nn.Module) -> bool:
    """Return whether each rank holds only a part of a network; then all ranks must call it."""
    return any(isinstance(parameter, DTensor) for parameter in network.parameters())


def first_message(message: str | None) -> str:
    """Return the message of the lowest rank that has one; at least one rank must have one."""
    messages: list[Any] = [message] * world_size()
    if world_size() > 1:
        dist.all_gather_object(messages, message)
    return str(next(filter(None, messages)))


def is_rank_loss(error: Exception) -> bool:
    """Return whether an error means that another rank is gone, which is no fault of the run."""
    backends = ("gloo", "NCCL")
    from_backend = isinstance(error, RuntimeError) and any(b in str(error) for b in backends)
    return world_size() > 1 and (isinstance(error, dist.DistError) or from_backend)


def broadcast(message: Any) -> Any:
    """Return the message of rank 0 on every rank; the arguments of the others are ignored."""
    if world_size() == 1:
        return message
    messages = [message]
    dist.broadcast_object_list(messages, src=0, device=torch.device("cpu"))
    return messages[0]


@contextmanager
def process_group(devices: int, nodes: int, folder: Path) -> Iterator[None]:
    """Connect the ranks of a run, `devices` on each node, through a file in `folder`.

    Raises ConfigError where the launcher started another number of processes.
    """
    if devices * nodes == 1:
        yield
        return
    rank, size = launcher_rank()
    if size != devices * nodes:
        raise ConfigError(
            f"trainer.devices={devices} and trainer.num_nodes={nodes} need"
            f" {devices * nodes} processes, found {size}; `suite sweep --cluster` starts them, or"
            f" torchrun"
        )
    # Lightning reads these.
    os.environ.setdefault("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))
    os.environ.setdefault("GROUP_RANK", os.environ.get("SLURM_NODEID", "0"))
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    path = rendezvous_file(folder)
    store = rendezvous(rank, size, path)
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=size, timeout=COLLECTIVE_TIMEOUT
    )
    path.unlink(missing_ok=True)
    yield
    # Not after an error: the barrier may wait for ranks that are gone. All ranks leave together,
    # because a rank that finds the connections of the others closed may abort.
    dist.barrier()
    dist.destroy_process_group()


def launcher_rank() -> tuple[int, int]:
    """Return rank and number of ranks from the environment of torchrun, or else of SLURM's srun."""
    names = ("RANK", "WORLD_SIZE") if "RANK" in os.environ else ("SLURM_PROCID", "SLURM_NTASKS")
    return int(os.environ.get(names[0], 0)), int(os.environ.get(names[1], 1))


def local_device(accelerator: str) -> torch.device:
    """Return the device of this process; `accelerator` is cpu, gpu or auto."""
    if accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) if world_size() > 1 else 0)


def rendezvous_file(folder: Path) -> Path:
    """Return the file through which the ranks of this attempt, and of no other, connect."""
    names = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "TORCHELASTIC_RUN_ID", "MASTER_PORT")
    attempt = [os.environ[name] for name in names if name in os.environ]
    return folder / f".meeting-{'-'.join(attempt)}"


def rendezvous(rank: int, size: int, path: Path) -> Any:
    """Return the store of the process group; raises ConfigError where rank 0 does not come.

    Rank 0 takes a free port and writes its address to the file. A port that is computed from the
    job's number may be taken.
    """
    timeout = timedelta(seconds=RENDEZVOUS_SECONDS)
    if rank == 0:
        host = reachable_address()
        store: Any = dist.TCPStore(  # type: ignore[attr-defined]
            host, 0, size, True, timeout, wait_for_workers=False
        )
        write_text(path, f"{host} {store.port}")
        return store
    deadline = time.monotonic() + RENDEZVOUS_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise ConfigError(f"rank {rank} waited {RENDEZVOUS_SECONDS:.0f} s for rank 0 at {path}")
        time.sleep(0.05)
    host, port = path.read_text().split()
    client: Any = dist.TCPStore(  # type: ignore[attr-defined]
        host, int(port), size, False, timeout
    )
    return client


def reachable_address() -> str:
    """Return the address at which other nodes reach this node.

    The launcher's address counts if it belongs to this node, else the host name: srun gives the
    node where srun itself runs, which is the first node of a run only in a batch job.
    """
    given = [os.environ.get(name) for name in ("MASTER_ADDR", "SLURM_LAUNCH_NODE_IPADDR")]
    for address in filter(None, [*given, socket.gethostname()]):
        try:
            with socket.create_server((address, 0)):
                return address
        except OSError:
            continue
    return "127.0.0.1"
