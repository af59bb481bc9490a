"""Networks of which each rank holds a part (FSDP2)."""

from collections.abc import Collection
from typing import Protocol, runtime_checkable

from torch import nn
from torch.distributed.device_mesh import DeviceMesh


@runtime_checkable
class HasBlocks(Protocol):
    """A model of transformers, which names the classes of its blocks."""

    _no_split_modules: Collection[str] | None


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Keep a part of the parameters on each rank, and gather them block by block when needed."""
    from torch.distributed.fsdp import fully_shard

    modules = list(network.modules())
    models = [module for module in modules if isinstance(module, HasBlocks)]
    blocks = {name for model in models for name in model._no_split_modules or ()}
    for module in modules:
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    # By default the outermost module keeps its parameters whole until a backward pass, and the
    # reference has none.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)
