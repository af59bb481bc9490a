"""The one LightningModule: any domain, any objective."""

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from typing_extensions import override

from suite.config.schema import OptimizerConfig, ReferenceConfig, TrainerConfig
from suite.domains.base import Domain, HasAuxiliaryLosses, HasNetworks
from suite.feedback.feedback import Feedback
from suite.objectives.base import HasParameters, Objective
from suite.policies.reference import follow
from suite.system import distributed
from suite.system.timing import timed
from suite.training.checkpoint_io import random_state, restore_random_state
from suite.training.sharding import shard

LARGEST_COPY = 2**24  # bytes of state that are copied at every step of several batches
ENDLESS = 2**31  # batches: the trainer's limit on calls ends a run, not the data


class NonFiniteLoss(Exception):
    """The loss is NaN or infinite; the message names the step and the term."""


class PreferenceModule(L.LightningModule):
    """Gradient steps on any objective over the batches of any domain.

    Optimisation is manual in Lightning's sense, so that one call may take several steps. The
    module counts the steps: Lightning's own counter costs a tenth of a millisecond per step.
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
        self.ended = False  # by trainer.max_kl, before the last step
        self.before_step = StepStart(domain)
        self.told_to_stop: Callable[[], bool] = bool  # no; the callback Checkpoint replaces it
        self.gave_up = False  # the batches of a step, after a stop signal
        self.sharded = False
        self.compute = (
            torch.compile(self.loss_and_metrics) if trainer.compile else self.loss_and_metrics
        )

    @property
    def is_done(self) -> bool:
        """Whether no further step follows, also in a later attempt."""
        return self.ended or self.step >= self.trainer_settings.steps

    @override
    def training_step(self, batch: Iterator[Any], batch_idx: int) -> dict[str, Tensor]:
        """Take `steps_per_call` steps; return the metrics of the last one, detached, [] each.

        `batch` yields the batches one by one, so that each is drawn after the step before it.
        Return nothing where a stop signal came between the batches of the first step: the step is
        then not taken. Raises NonFiniteLoss.
        """
        first_step, settings = self.step + 1, self.trainer_settings
        steps = range(settings.steps_per_call)
        taken = [metrics for _ in steps for metrics in self.take_step(batch, first_step)]
        if self.gave_up:
            return {}
        # Checked once per call: on a GPU each check waits for all work that was started.
        finite = bool(torch.stack([metrics["total"] for metrics in taken]).isfinite().all())
        if distributed.any_rank(not finite):  # all ranks stop, or one would wait for another
            message = None if finite else describe_non_finite(taken, first_step, settings)
            raise NonFiniteLoss(distributed.first_message(message))
        logged = {name: value.mean() for name, value in taken[-1].items()}
        logged["reference_reject_share"] = torch.tensor(self.domain.shares.reject)
        return logged

    def take_step(self, batches: Iterator[Any], first_step: int) -> list[dict[str, Tensor]]:
        """Take one optimiser step on the mean loss over `accumulate` batches; return the metrics.

        There is one item per batch, as `loss_and_metrics` returns them. The step `first_step` is
        given up where a stop signal comes between two batches.
        """
        optimizer, settings = self.optimizers(use_pl_optimizer=False), self.optimizer_settings
        assert isinstance(optimizer, AdamW)
        factor = learning_rate_factor(settings, self.step, self.trainer_settings.steps)
        for group in optimizer.param_groups:
            group["lr"] = factor * group["initial_lr"]
        optimizer.zero_grad()
        count = self.trainer_settings.accumulate
        may_give_up = count > 1 and self.step + 1 == first_step and self.before_step.keep()
        taken = []
        for number in range(count):
            # All ranks give up together: a signal may reach one of them earlier than the others.
            if number and may_give_up and distributed.any_rank(self.told_to_stop()):
                self.gave_up = True
                optimizer.zero_grad()
                return []
            taken.append(self.accumulate_gradient(batches))
        with timed("optimizer"):
            if settings.clip_norm is not None:
                self.clip(optimizer, settings.clip_norm)
            optimizer.step()
            self.step += 1
            follow(self.policy, self.reference, self.reference_settings, self.step)
        return taken

    def accumulate_gradient(self, batches: Iterator[Any]) -> dict[str, Tensor]:
        """Add the gradient of the next batch, as its part of a step; return its metrics."""
        count = self.trainer_settings.accumulate
        with torch.autocast(self.device.type, enabled=False):  # of the steps alone
            with timed("batches"):
                batch = next(batches)
            if self.device.type != "cpu":
                batch = self.transfer_batch_to_device(batch, self.device, 0)
        loss, metrics = self.compute(batch)
        loss = loss / count if count > 1 else loss
        # Like Lightning's manual_backward, without its calls of every callback.
        self.trainer.strategy.pre_backward(loss)
        with timed("backward"):
            torch.autograd.backward(loss)
        return metrics

    def clip(self, optimizer: AdamW, max_norm: float) -> None:
        """Scale the gradients down to a norm; on the CPU only where their norm is larger."""
        gradients = [
            p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None
        ]
        on_cpu = self.device.type == "cpu" and not distributed.is_sharded(self.policy)
        if on_cpu and bool(nn.utils.get_total_norm(gradients) <= max_norm):
            return  # multiplying by one would take as long as the norm
        self.clip_gradients(optimizer, max_norm, "norm")

    def loss_and_metrics(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss [] and the metrics of a batch, detached, of any shape.

        This is the part of a step that `trainer.compile` compiles.
        """
        feedback = self.domain.feedback(batch)
        terms = self.objective(feedback, self.domain.shares)
        auxiliary = self.auxiliary.auxiliary_losses(batch) if self.auxiliary else {}
        loss = terms.loss + sum(auxiliary.values())
        metrics = {name: term.detach() for name, term in (terms._asdict() | auxiliary).items()}
        metrics["total"] = loss.detach()
        metrics["kl"] = mean_kl(feedback)
        metrics["accepted_share"] = (feedback.accept > 0).float()
        metrics["rejected_share"] = (feedback.reject > 0).float()
        return loss, metrics

    @override
    def configure_model(self) -> None:
        """Shard the networks once, where `trainer.strategy` is fsdp and ranks are several."""
        is_fsdp = self.trainer_settings.strategy == "fsdp" and distributed.world_size() > 1
        if is_fsdp and not self.sharded:
            assert self.device_mesh is not None
            assert isinstance(self.domain, HasNetworks), "its settings say that it is shardable"
            shard(self.domain.networks, self.device_mesh["data_parallel"])
            self.sharded = True

    @override
    def configure_optimizers(self) -> AdamW:
        """Build AdamW over the trained parameters of the policy and those of the objective."""
        settings = self.optimizer_settings
        parameters = [p for p in self.policy.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": parameters, "initial_lr": settings.lr}]
        if isinstance(self.objective, nn.Module):
            assert isinstance(self.objective, HasParameters), "its parameters need a dual_lr"
            duals = {"params": list(self.objective.parameters()), "weight_decay": 0.0}
            groups.append(duals | {"initial_lr": self.objective.dual_lr})
        return AdamW(
            groups,
            betas=(0.9, settings.beta2),
            weight_decay=settings.weight_decay,
            fused=self.trainer.precision == "32-true",  # Lightning does not clip it under AMP
        )

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state outside of the networks and the optimiser."""
        checkpoint["step"], checkpoint["ended"] = self.step, self.ended
        # What the batches of a step that was given up have drawn is drawn again.
        now = {"domain": self.domain.state_dict(), "random": random_state()}
        checkpoint |= self.before_step.state if self.gave_up else now

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state that `on_save_checkpoint` added."""
        self.step, self.ended = checkpoint["step"], checkpoint.get("ended", False)
        self.domain.load_state_dict(checkpoint["domain"])
        restore_random_state(checkpoint["random"])


def mean_kl(feedback: Feedback) -> Tensor:
    """Return the KL of each context, [B], or where they have weights their weighted mean, []."""
    kl = feedback.kl.detach()
    if feedback.weight is None:
        return kl
    return feedback.weighted(kl).sum() / feedback.weight.sum().clamp(min=1e-12)


class StepStart:
    """The state outside of networks and optimiser at the beginning of a step.

    Copies of large states, such as a replay, would take longer than a stop waits for a step.
    """

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.state: dict[str, Any] = {}
        self.is_small = True

    def keep(self) -> bool:
        """Copy the state of this moment; return False where it is too large for that."""
        if self.is_small:
            state = self.domain.state_dict()
            self.is_small = tensor_bytes(state) <= LARGEST_COPY
            if self.is_small:
                self.state = {"domain": copy.deepcopy(state), "random": random_state()}
        return self.is_small


def tensor_bytes(values: Any) -> int:
    """Return the memory of all tensors in nested containers."""
    if isinstance(values, Tensor):
        return values.nbytes
    if isinstance(values, dict):
        return sum(map(tensor_bytes, values.values()))
    return sum(map(tensor_bytes, values)) if isinstance(values, list | tuple) else 0


class Batches:
    """A domain's endless batches in the form that Lightning expects: an iterator for every call.

    It has a length, without which Lightning would draw one call ahead of the checkpoint, and an
    empty state: the domain saves what a resume needs.
    """

    def __init__(self, domain: Domain) -> None:
        self.domain = domain

    def __len__(self) -> int:
        return ENDLESS

    def __iter__(self) -> Iterator[Iterator[Any]]:
        return itertools.repeat(iter(self.domain.train_dataloader()))

    def state_dict(self) -> dict[str, Any]:
        """Return nothing; see PreferenceModule.on_save_checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Ignore the empty state."""


def learning_rate_factor(settings: OptimizerConfig, step: int, steps: int) -> float:
    """Return the factor on the learning rate for the step that follows `step` steps."""
    warmup = min(1.0, (step + 1) / (settings.warmup + 1))
    return warmup * (1 - step / steps if settings.decay == "linear" else 1.0)


def describe_non_finite(
    taken: list[dict[str, Tensor]], first_step: int, settings: TrainerConfig
) -> str:
    """Return the first step whose loss is not finite, and its terms that are not finite.

    `taken` are the metrics of each batch since `first_step`.
    """
    index = next(i for i, metrics in enumerate(taken) if not metrics["total"].isfinite())
    step = first_step + index // settings.accumulate
    non_finite = {
        name: value.mean().item()
        for name, value in taken[index].items()
        if name != "total" and not value.isfinite().all()
    }
    terms = ", ".join(f"{name} is {value}" for name, value in non_finite.items())
    return f"the loss is not finite at step {step}: {terms or 'their sum overflows'}"
