"""Lightning's trainer with this suite's settings: the loop, the devices, the strategy."""

from typing import Any

import lightning.pytorch as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy

from suite.config.schema import TrainerConfig
from suite.training.checkpoint_io import AtomicCheckpointIO


def build_trainer(settings: TrainerConfig, callbacks: list[L.Callback]) -> L.Trainer:
    """Return Lightning's trainer with these callbacks and none of its own."""
    return L.Trainer(
        max_epochs=1,
        limit_train_batches=settings.steps // settings.steps_per_call,
        accelerator=settings.accelerator,
        precision=settings.precision,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **placement(settings),
    )


def placement(settings: TrainerConfig) -> dict[str, Any]:
    """Return the devices, the strategy and the plugins; the process group exists already."""
    plugins: list[Any] = [AtomicCheckpointIO()]
    if settings.ranks == 1:
        return {"devices": 1, "plugins": [*plugins, LightningEnvironment()]}
    strategy: Any = "ddp"
    if settings.strategy == "fsdp":  # FSDP2, which Lightning has under another name
        strategy = ModelParallelStrategy(settings.ranks, 1, save_distributed_checkpoint=False)
    return {
        "devices": settings.devices,
        "num_nodes": settings.num_nodes,
        "strategy": strategy,
        "plugins": [*plugins, TorchElasticEnvironment()],
    }
