"""The one LightningModule: any domain, any objective."""

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from suite.checkpoints import random_state, restore_random_state
from suite.config import OptimizerConfig
from suite.domains.base import Domain
from suite.objectives import Objective

ENDLESS = 2**31  # the trainer's max_steps ends a run, not its data


class NonFiniteLoss(Exception):
    """The loss is NaN or infinite; the message names the step and the term."""


class PreferenceModule(L.LightningModule):
    """Take gradient steps on an objective over a domain's batches; knows neither's inside."""

    def __init__(
        self, domain: Domain, objective: Objective, optimizer: OptimizerConfig, steps: int
    ) -> None:
        super().__init__()
        self.domain = domain
        self.objective = objective
        self.optimizer_settings = optimizer
        self.steps = steps
        self.policy = domain.policy
        self.reference = domain.reference

    @override
    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss, and beside it everything worth logging, detached."""
        feedback = self.domain.feedback(batch)
        terms = self.objective(feedback, self.domain.shares)
        auxiliary = self.domain.auxiliary_losses(batch)
        loss = terms.loss + sum(auxiliary.values())
        logged = {name: term.detach() for name, term in (terms._asdict() | auxiliary).items()}
        if not torch.isfinite(loss):
            raise NonFiniteLoss(describe(logged, self.global_step + 1))
        logged["total"] = loss.detach()  # Lightning divides "loss" by the accumulated batches
        logged["kl"] = feedback.kl.detach().mean()
        logged["accepted_share"] = feedback.accept.mean()
        logged["rejected_share"] = feedback.reject.mean()
        logged["reference_reject_share"] = torch.tensor(self.domain.shares.reject)
        return {"loss": loss, **logged}

    @override
    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build AdamW over everything that needs a gradient, and its schedule."""
        plan = self.optimizer_settings
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trained,
            lr=plan.lr,
            betas=(0.9, plan.beta2),
            weight_decay=plan.weight_decay,
            fused=self.trainer.precision == "32-true",  # Lightning clips no fused one under AMP
        )
        schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(plan, step, self.steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the networks and the optimiser do not hold."""
        checkpoint["domain"] = self.domain.state_dict()
        checkpoint["random"] = random_state()

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue where the checkpoint was."""
        self.domain.load_state_dict(checkpoint["domain"])
        restore_random_state(checkpoint["random"])


class Batches:
    """A domain's endless batches as Lightning wants them.

    It has a length, or Lightning would draw one batch ahead of the checkpoint; and (empty) state
    of its own, for the domain saves what a resume needs.
    """

    def __init__(self, domain: Domain) -> None:
        self.domain = domain

    def __len__(self) -> int:
        return ENDLESS

    def __iter__(self) -> Iterator[Any]:
        return iter(self.domain.train_dataloader())

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: see PreferenceModule.on_save_checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Need nothing."""


def learning_rate_factor(plan: OptimizerConfig, step: int, steps: int) -> float:
    """Return the factor on the learning rate for the step after `step` finished ones."""
    warmup = min(1.0, (step + 1) / (plan.warmup + 1))
    return warmup * (1 - step / steps if plan.decay == "linear" else 1.0)


def describe(terms: dict[str, Tensor], step: int) -> str:
    """Name the step and the terms that are not finite."""
    bad = {name: value.item() for name, value in terms.items() if not torch.isfinite(value).all()}
    names = ", ".join(f"{name} is {value}" for name, value in bad.items()) or "their sum overflows"
    return f"the loss is not finite at step {step}: {names}"
