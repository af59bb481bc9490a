"""The one LightningModule: any domain, any objective."""

import itertools
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from typing_extensions import override

from suite.config.schema import OptimizerConfig, ReferenceConfig, TrainerConfig
from suite.domains.base import Domain, HasAuxiliaryLosses
from suite.objectives.base import Objective
from suite.policies.reference import follow
from suite.system import distributed
from suite.system.timing import timed
from suite.training.checkpoints import random_state, restore_random_state

ENDLESS = 2**31  # the trainer's limit on calls ends a run, not its data


class NonFiniteLoss(Exception):
    """The loss is NaN or infinite; the message names the step and the term."""


class PreferenceModule(L.LightningModule):
    """Take gradient steps on an objective over a domain's batches; knows neither's inside.

    Optimisation is manual in Lightning's sense, so that one call may take several steps. They are
    counted here: Lightning would count them too, at a tenth of a millisecond each.
    """

    def __init__(
        self,
        domain: Domain,
        objective: Objective,
        optimizer: OptimizerConfig,
        reference: ReferenceConfig,
        trainer: TrainerConfig,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.domain = domain
        self.objective = objective
        self.optimizer_settings = optimizer
        self.reference_settings = reference
        self.trainer_settings = trainer
        self.auxiliary = domain if isinstance(domain, HasAuxiliaryLosses) else None
        self.policy = domain.policy
        self.reference = domain.reference
        self.step = 0  # optimiser steps so far
        self.ended = False  # before its last step, for good
        self.sharded = False
        self.terms = (
            torch.compile(self.loss_and_metrics) if trainer.compile else self.loss_and_metrics
        )

    @override
    def training_step(self, batch: Iterator[Any], batch_idx: int) -> dict[str, Tensor]:
        """Take `steps_per_call` steps; return what is worth logging of the last one, detached.

        `batch` yields the batches one by one, so that each is drawn after the step before it.
        """
        first, plan = self.step + 1, self.trainer_settings
        taken = [terms for _ in range(plan.steps_per_call) for terms in self.take_step(batch)]
        # Looked at once per call: on a GPU every look waits for all that was started.
        finite = bool(torch.stack([terms["total"] for terms in taken]).isfinite().all())
        if distributed.any_rank(not finite):  # or one rank would wait for another that has left
            raise NonFiniteLoss(
                distributed.first_text(None if finite else describe_non_finite(taken, first, plan))
            )
        logged = {name: value.mean() for name, value in taken[-1].items()}
        logged["reference_reject_share"] = torch.tensor(self.domain.shares.reject)
        return logged

    def take_step(self, batches: Iterator[Any]) -> list[dict[str, Tensor]]:
        """Take one optimiser step on the mean loss over `accumulate` batches; return the terms."""
        optimizer, plan = self.optimizers(use_pl_optimizer=False), self.optimizer_settings
        assert isinstance(optimizer, AdamW)
        factor = learning_rate_factor(plan, self.step, self.trainer_settings.steps)
        for group in optimizer.param_groups:
            group["lr"] = factor * group["initial_lr"]
        count, taken = self.trainer_settings.accumulate, []
        optimizer.zero_grad()
        for _ in range(count):
            with torch.autocast(self.device.type, enabled=False):  # whatever the precision of steps
                with timed("batches"):
                    batch = next(batches)
                if self.device.type != "cpu":
                    batch = self.transfer_batch_to_device(batch, self.device, 0)
            loss, terms = self.terms(batch)
            loss = loss / count if count > 1 else loss
            # As Lightning's manual_backward, without its calls of every callback.
            self.trainer.strategy.pre_backward(loss)
            with timed("backward"):
                torch.autograd.backward(loss)
            taken.append(terms)
        with timed("optimizer"):
            if plan.clip_norm is not None:
                self.clip(optimizer, plan.clip_norm)
            optimizer.step()
            self.step += 1
            follow(self.policy, self.reference, self.reference_settings, self.step)
        return taken

    def clip(self, optimizer: AdamW, most: float) -> None:
        """Scale the gradients down to a norm; on the CPU only where they are above it."""
        gradients = [
            p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None
        ]
        cheap = self.device.type == "cpu" and not distributed.is_sharded(self.policy)
        if cheap and bool(nn.utils.get_total_norm(gradients) <= most):
            return  # multiplying by one takes as long
        self.clip_gradients(optimizer, most, "norm")

    def loss_and_metrics(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and what to log means of; all mathematics of a step is in here."""
        feedback = self.domain.feedback(batch)
        terms = self.objective(feedback, self.domain.shares)
        auxiliary = self.auxiliary.auxiliary_losses(batch) if self.auxiliary else {}
        loss = terms.loss + sum(auxiliary.values())
        logged = {name: term.detach() for name, term in (terms._asdict() | auxiliary).items()}
        logged["total"] = loss.detach()
        logged["kl"] = feedback.kl.detach()
        logged["accepted_share"] = (feedback.accept > 0).float()
        logged["rejected_share"] = (feedback.reject > 0).float()
        return loss, logged

    @override
    def configure_model(self) -> None:
        """Spread the networks over the ranks where `trainer.strategy` asks for it."""
        if (
            self.trainer_settings.strategy == "fsdp"
            and not self.sharded
            and distributed.world_size() > 1
        ):
            assert self.device_mesh is not None
            networks: Any = self.domain
            shard(networks.networks, self.device_mesh["data_parallel"])
            self.sharded = True

    @override
    def configure_optimizers(self) -> AdamW:
        """Build AdamW over everything that needs a gradient."""
        plan = self.optimizer_settings
        parameters = [p for p in self.policy.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": parameters, "initial_lr": plan.lr}]
        if isinstance(self.objective, nn.Module):
            duals = {"params": list(self.objective.parameters()), "weight_decay": 0.0}
            groups.append(duals | {"initial_lr": self.objective.dual_lr})
        return AdamW(
            groups,
            betas=(0.9, plan.beta2),
            weight_decay=plan.weight_decay,
            fused=self.trainer.precision == "32-true",  # Lightning clips no fused one under AMP
        )

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the networks and the optimiser do not hold."""
        checkpoint["step"], checkpoint["ended"] = self.step, self.ended
        checkpoint["domain"] = self.domain.state_dict()
        checkpoint["random"] = random_state()

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue where the checkpoint was."""
        self.step, self.ended = checkpoint["step"], checkpoint.get("ended", False)
        self.domain.load_state_dict(checkpoint["domain"])
        restore_random_state(checkpoint["random"])


def shard(network: nn.Module, mesh: Any) -> None:
    """Keep a part of a network's parameters on each rank, gathered block by block when needed."""
    from torch.distributed.fsdp import fully_shard

    models = list(network.modules())
    # How transformers names them.
    blocks = {name for model in models for name in getattr(model, "_no_split_modules", None) or ()}
    for module in models:
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    # Else the outermost keeps what it gathered until a backward pass, which the reference lacks.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


class Batches:
    """A domain's endless batches as Lightning wants them: one iterator over them for every call.

    It has a length, or Lightning would go one call ahead of the checkpoint; and (empty) state
    of its own, for the domain saves what a resume needs.
    """

    def __init__(self, domain: Domain) -> None:
        self.domain = domain

    def __len__(self) -> int:
        return ENDLESS

    def __iter__(self) -> Iterator[Iterator[Any]]:
        return itertools.repeat(iter(self.domain.train_dataloader()))

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: see PreferenceModule.on_save_checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Need nothing."""


def learning_rate_factor(plan: OptimizerConfig, step: int, steps: int) -> float:
    """Return the factor on the learning rate for the step after `step` finished ones."""
    warmup = min(1.0, (step + 1) / (plan.warmup + 1))
    return warmup * (1 - step / steps if plan.decay == "linear" else 1.0)


def describe_non_finite(taken: list[dict[str, Tensor]], first: int, plan: TrainerConfig) -> str:
    """Name the first step whose loss is not finite, and the terms, from those since `first`."""
    wrong = next(i for i, terms in enumerate(taken) if not terms["total"].isfinite())
    return describe(taken[wrong], first + wrong // plan.accumulate)


def describe(terms: dict[str, Tensor], step: int) -> str:
    """Name the step and the terms that are not finite."""
    parts = {name: value for name, value in terms.items() if name != "total"}
    bad = {
        name: value.mean().item()
        for name, value in parts.items()
        if not torch.isfinite(value).all()
    }
    names = ", ".join(f"{name} is {value}" for name, value in bad.items()) or "their sum overflows"
    return f"the loss is not finite at step {step}: {names}"
