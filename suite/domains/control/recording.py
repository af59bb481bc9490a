"""Recorded episodes of a control run while it learns, and a mixture of good and bad ones.

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

RECIPE = 1  # increase when a change of the code below changes the episodes of equal settings
LR, REFERENCE_EVERY, COVARIANCE_WEIGHT = 6e-4, 100, 100.0  # of configs/control
SAVED_EVERY = 1000  # updates between two checkpoints


class Recording(Control):
    """Control that stores whole episodes, random actions included."""

    def __init__(self, settings: ControlConfig, parts: DomainParts) -> None:
        super().__init__(settings, parts)
        self.current: list[list[Tensor]] = []
        self.episodes: list[dict[str, Tensor]] = []

    @override
    def step_environments(self, action: Tensor) -> Outcome:
        """Act once, and store the step."""
        before = self.environments.observation
        outcome = super().step_environments(action)
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
        """Return the state of acting and replay, and the episodes."""
        return super().state_dict() | {"current": self.current, "episodes": self.episodes}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        super().load_state_dict(state)
        self.current, self.episodes = state["current"], state["episodes"]


def recording_folder(settings: OfflineConfig, cache: Path) -> Path:
    """Return the folder of the mixture, recording it unless it is cached; raises ConfigError."""
    folder = cache / f"{settings.task}-{mixture_signature(settings)}"
    checkpoint = cache / f".{settings.task}-{run_signature(settings)}.ckpt"

    def make(new: Path) -> None:
        chosen = write_mixture(record(settings, checkpoint), settings, new, folder.name)
        logger.info("recorded %s: %s", folder, describe(chosen))

    return cached(folder, make, checkpoint)


def mixture_signature(settings: OfflineConfig) -> str:
    """Hash everything that determines the chosen episodes."""
    success, share = settings.recording.success, settings.recording.share
    return hashed({"run": run_signature(settings), "success": success, "share": share})


def run_signature(settings: OfflineConfig) -> str:
    """Hash what determines the run; settings of the mixture choose among its episodes."""
    steps, seed = settings.recording.steps, settings.recording.seed
    control = asdict(run_settings(settings))
    return hashed({"recipe": RECIPE, "steps": steps, "seed": seed, "control": control})


def hashed(values: dict[str, Any]) -> str:
    """Return a hash of values, of twelve hexadecimal digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def run_settings(settings: OfflineConfig) -> ControlConfig:
    """Return the settings of the run that is recorded."""
    recording = settings.recording
    return ControlConfig(
        task=settings.task,
        action_repeat=settings.action_repeat,
        episode_length=settings.episode_length,
        batch_size=recording.batch_size,
        warmup=recording.warmup,
        actor=recording.network,
        critic_network=recording.network,
        critic=CriticConfig(
            head=settings.critic.head, low=settings.critic.low, high=settings.critic.high
        ),
        replay_size=recording.steps + 1000,
    )


def record(settings: OfflineConfig, checkpoint: Path) -> list[Episode]:
    """Learn with mixed feedback, and return all whole episodes of the learning."""
    run = settings.recording
    with torch.random.fork_rng(), one_thread():
        torch.manual_seed(run.seed)
        domain = Recording(
            run_settings(settings),
            DomainParts(
                label_noise=LabelNoise("mixed"),
                divergence="forward",
                seed=run.seed,
                cache=checkpoint.parent,
                device=torch.device("cpu"),
            ),
        )
        objective = build_objective(
            PMPOConfig(covariance_weight=COVARIANCE_WEIGHT), "mixed", domain.dimensions
        )
        optimizer = torch.optim.AdamW(domain.policy.parameters(), lr=LR, weight_decay=0.0)
        updates = restore(checkpoint, domain, optimizer)
        reference_update = ReferenceConfig(update="copy", every=REFERENCE_EVERY)
        batches = domain.train_dataloader()
        with progress_bar() as bar:
            row = bar.add_task(f"recording {settings.task}", total=run.steps, episode=0.0)
            while domain.environments.steps < run.steps:
                batch = next(batches)
                terms = objective(domain.feedback(batch), domain.shares)
                loss = terms.loss + sum(domain.auxiliary_losses(batch).values())
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                updates += 1
                follow(domain.policy, domain.reference, reference_update, updates)
                if updates % SAVED_EVERY == 0:
                    bar.update(row, completed=domain.environments.steps, episode=domain.last_return)
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
    """Compute with one thread, as sums depend on the number of threads."""
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
    """Restore an interrupted recording; return the number of its updates."""
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
    recording = settings.recording
    returns = [float(e.rewards.sum()) for e in episodes] or [0.0]
    middle = (min(returns) + max(returns)) / 2
    success = middle if recording.success is None else recording.success
    chosen = mixture(episodes, success, recording.share)
    successes = sum(float(e.rewards.sum()) >= success for e in chosen)
    about = {
        "dataset_id": name,
        "description": (
            f"{settings.task}: {len(chosen)} of the {len(episodes)} episodes of {recording.steps:,}"
            f" environment steps in which a policy learned; {successes} have a return of"
            f" {success:.4g} or more"
        ),
        "algorithm_name": "PMPO, mixed feedback",
    }
    write_minari(folder, chosen, about)
    return chosen


def mixture(episodes: Sequence[Episode], success: float, share: float) -> list[Episode]:
    """Return as many episodes as possible with this share of successful ones, evenly over time.

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
        bad = spread_evenly(bad, max(1, round(len(good) * per_good)))
    else:
        good = spread_evenly(good, max(1, round(len(bad) / per_good)))
    return [episodes[i] for i in sorted(good + bad)]


def spread_evenly(items: list[int], count: int) -> list[int]:
    """Return `count` of the items, spread evenly."""
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def progress_bar() -> Progress:
    """Return a progress bar that also shows the last return."""
    last = TextColumn("last return {task.fields[episode]:.4g}")
    return Progress(
        TextColumn("{task.description}"), BarColumn(), last, TimeElapsedColumn(), transient=True
    )
