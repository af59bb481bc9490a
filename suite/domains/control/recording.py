"""Episodes of a control run while it learns, and a mixture of good and bad ones of them.

Made once, then cached by what determines them. A kill costs the steps since the last checkpoint.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor
from typing_extensions import override

from suite.config.contracts import DomainParts
from suite.config.fields import ConfigError
from suite.config.schema import ReferenceConfig
from suite.domains.control.config import CriticConfig
from suite.domains.control.environments import Outcome
from suite.domains.control.episodes import Episode, describe, write_minari
from suite.domains.control.offline_config import OfflineConfig
from suite.domains.control.online import Control
from suite.domains.control.online_config import ControlConfig
from suite.feedback.label_noise import LabelNoise
from suite.objectives.base import build_objective
from suite.objectives.config import PMPOConfig
from suite.policies.reference import follow
from suite.system.cache import cached
from suite.system.files import write_with

logger = logging.getLogger(__name__)

RECIPE = 1  # raise when the code below changes what comes out for the same settings
LR, EVERY, COVARIANCE_WEIGHT = 6e-4, 100, 100.0  # of configs/control
SAVED_EVERY = 1000  # updates


class Recording(Control):
    """Control that remembers whole episodes as they were acted, random actions and all."""

    def __init__(self, settings: ControlConfig, parts: DomainParts) -> None:
        super().__init__(settings, parts)
        self.current: list[list[Tensor]] = []
        self.episodes: list[dict[str, Tensor]] = []

    @override
    def take(self, action: Tensor) -> Outcome:
        """Act once, and keep what happened."""
        before = self.environments.observation
        outcome = super().take(action)
        self.current.append([before[0], action[0], outcome.reward[0].float()])
        terminated = bool(outcome.terminated[0])
        if terminated or bool(outcome.truncated[0]):
            seen, actions, rewards = (torch.stack(c) for c in zip(*self.current, strict=True))
            self.episodes.append(
                {
                    "observations": torch.cat([seen, outcome.next_observation]),
                    "actions": actions,
                    "rewards": rewards,
                    "terminated": torch.tensor(terminated),
                }
            )
            self.current = []
        return outcome

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return all of it."""
        kept = {"current": self.current, "episodes": self.episodes}
        return super().state_dict() | kept

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there."""
        super().load_state_dict(state)
        self.current, self.episodes = state["current"], state["episodes"]


def recording_folder(settings: OfflineConfig, cache: Path) -> Path:
    """Return the folder of the mixture, making it where the cache is empty; raises ConfigError."""
    folder = cache / f"{settings.task}-{signature(settings)}"
    checkpoint = cache / f".{settings.task}-{run_signature(settings)}.ckpt"

    def make(new: Path) -> None:
        chosen = write_mixture(record(settings, checkpoint), settings, new, folder.name)
        logger.info("recorded %s: %s", folder, describe(chosen))

    return cached(folder, make, checkpoint)


def signature(settings: OfflineConfig) -> str:
    """Hash everything that determines the episodes."""
    plan = settings.recording
    return hashed({"run": run_signature(settings), "success": plan.success, "share": plan.share})


def run_signature(settings: OfflineConfig) -> str:
    """Hash what determines the run, of which other settings may choose other episodes."""
    plan = settings.recording
    run = {"steps": plan.steps, "seed": plan.seed, "control": asdict(of_control(settings))}
    return hashed({"recipe": RECIPE, **run})


def hashed(values: dict[str, Any]) -> str:
    """Return twelve hexadecimal digits that stand for values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def of_control(settings: OfflineConfig) -> ControlConfig:
    """Return the settings of the run that is recorded."""
    plan = settings.recording
    return ControlConfig(
        task=settings.task,
        action_repeat=settings.action_repeat,
        episode_length=settings.episode_length,
        batch_size=plan.batch_size,
        warmup=plan.warmup,
        actor=plan.network,
        critic_network=plan.network,
        critic=CriticConfig(
            head=settings.critic.head, low=settings.critic.low, high=settings.critic.high
        ),
        replay_size=plan.steps + 1000,
    )


def record(settings: OfflineConfig, checkpoint: Path) -> list[Episode]:
    """Learn with mixed feedback, and return all whole episodes on the way."""
    plan = settings.recording
    with torch.random.fork_rng(), one_thread():
        torch.manual_seed(plan.seed)
        domain = Recording(
            of_control(settings),
            DomainParts(
                label_noise=LabelNoise("mixed"),
                divergence="forward",
                seed=plan.seed,
                cache=checkpoint.parent,
                device=torch.device("cpu"),
            ),
        )
        objective = build_objective(
            PMPOConfig(covariance_weight=COVARIANCE_WEIGHT), "mixed", domain.dimensions
        )
        optimizer = torch.optim.AdamW(domain.policy.parameters(), lr=LR, weight_decay=0.0)
        updates = restore(checkpoint, domain, optimizer)
        batches = domain.train_dataloader()
        with progress_bar() as bar:
            shown = bar.add_task(f"recording {settings.task}", total=plan.steps, episode=0.0)
            while domain.environments.steps < plan.steps:
                batch = next(batches)
                terms = objective(domain.feedback(batch), domain.shares)
                loss = terms.loss + sum(domain.auxiliary_losses(batch).values())
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                updates += 1
                how = ReferenceConfig(update="copy", every=EVERY)
                follow(domain.policy, domain.reference, how, updates)
                if updates % SAVED_EVERY == 0:
                    bar.update(
                        shown, completed=domain.environments.steps, episode=domain.last_return
                    )
                    save(checkpoint, domain, optimizer, updates)
        save(checkpoint, domain, optimizer, updates)
    domain.environments.close()
    return [
        Episode(
            e["observations"].numpy(), e["actions"].numpy(), e["rewards"].numpy(),
            bool(e["terminated"]),
        )
        for e in domain.episodes
    ]  # fmt: skip


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, as sums depend on how many share them: all record the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def save(path: Path, domain: Recording, optimizer: torch.optim.Optimizer, updates: int) -> None:
    """Write a checkpoint."""
    state = {
        "policy": domain.policy.state_dict(),
        "reference": domain.reference.state_dict(),
        "optimizer": optimizer.state_dict(),
        "domain": domain.state_dict(),
        "random": torch.get_rng_state(),
        "updates": updates,
    }
    write_with(path, partial(torch.save, state))


def restore(path: Path, domain: Recording, optimizer: torch.optim.Optimizer) -> int:
    """Continue an interrupted recording; return the updates so far."""
    if not path.exists():
        return 0
    state: dict[str, Any] = torch.load(path, weights_only=True)
    domain.policy.load_state_dict(state["policy"])
    domain.reference.load_state_dict(state["reference"])
    optimizer.load_state_dict(state["optimizer"])
    domain.load_state_dict(state["domain"])
    torch.set_rng_state(state["random"])
    return int(state["updates"])


def write_mixture(
    episodes: Sequence[Episode], settings: OfflineConfig, folder: Path, name: str
) -> list[Episode]:
    """Choose episodes, write them as a data set of this name that describes them, return them."""
    plan = settings.recording
    returns = [float(e.rewards.sum()) for e in episodes] or [0.0]
    middle = (min(returns) + max(returns)) / 2
    success = middle if plan.success is None else plan.success
    chosen = mixture(episodes, success, plan.share)
    successes = sum(float(e.rewards.sum()) >= success for e in chosen)
    about = {
        "dataset_id": name,
        "description": (
            f"{settings.task}: {len(chosen)} of the {len(episodes)} episodes of {plan.steps:,}"
            f" environment steps in which a policy learned; {successes} have a return of"
            f" {success:.4g} or more"
        ),
        "algorithm_name": "PMPO, mixed feedback",
    }
    write_minari(folder, chosen, about)
    return chosen


def mixture(episodes: Sequence[Episode], success: float, share: float) -> list[Episode]:
    """Return as many episodes as give this share of successful ones, evenly over time.

    Raises ConfigError where there are no successful ones, or no others.
    """
    good = [i for i, e in enumerate(episodes) if e.rewards.sum() >= success]
    bad = [i for i in range(len(episodes)) if i not in set(good)]
    if not good or not bad:
        best = max((float(e.rewards.sum()) for e in episodes), default=0.0)
        raise ConfigError(
            f"domain.recording needs episodes below and above domain.recording.success={success:g};"
            f" {len(good)} of {len(episodes)} were above, the best had {best:.4g}: change it, or"
            " domain.recording.steps"
        )
    per_good = (1 - share) / share
    if len(good) * per_good <= len(bad):
        bad = evenly(bad, max(1, round(len(good) * per_good)))
    else:
        good = evenly(good, max(1, round(len(bad) / per_good)))
    return [episodes[i] for i in sorted(good + bad)]


def evenly(items: list[int], count: int) -> list[int]:
    """Return so many of the items, spread evenly."""
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def progress_bar() -> Progress:
    """Return a progress bar that also shows the last return."""
    last = TextColumn("last return {task.fields[episode]:.4g}")
    return Progress(
        TextColumn("{task.description}"), BarColumn(), last, TimeElapsedColumn(), transient=True
    )
