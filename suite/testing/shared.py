"""What all contracts share: building from a name, and comparing."""

import copy
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suite.config.loading import load
from suite.config.schema import Config
from suite.domains.base import Domain, build_domain
from suite.feedback.feedback import Feedback
from suite.objectives.base import Objective, build_objective
from suite.runs.folder import RunFolder
from suite.system.files import write_text


class BrokenContract(AssertionError):
    """A domain or an objective breaks a rule that the suite relies on."""


def require(condition: bool | Tensor, sentence: str) -> None:
    """Raise BrokenContract with the sentence unless the condition holds."""
    if not bool(condition):
        raise BrokenContract(sentence)


def config_of(name: str, overrides: Sequence[str], folder: Path) -> Config:
    """Load a configuration of a domain, whose other keys have their defaults."""
    path = folder / "contract.yaml"
    write_text(path, f"domain: {{name: '{name}'}}\n")
    given = [f"results_dir={folder}", *overrides]
    follows = any(word.startswith("reference.update=") for word in given)
    try:
        return load(path, given)
    except Exception:
        if follows:
            raise
        return load(path, [*given, "reference.update=copy"])  # where a frozen one is refused


def build(config: Config) -> Domain:
    """Build a configuration's domain from its seed."""
    torch.manual_seed(config.seed)
    return build_domain(config, cache=Path(config.results_dir))


def first_feedback(domain: Domain) -> Feedback:
    """Return the feedback of the first batch."""
    return domain.feedback(next(iter(domain.train_dataloader())))


def check_settings(config: Config, folder: Path) -> None:
    """A run's config.yaml gives the same run again."""
    run = RunFolder(folder / "contract-run")
    run.create(config)
    again = run.config()
    require(
        again.signature == config.signature,
        "the settings, written to config.yaml and read again, have another signature",
    )
    require("/" not in config.run_name, f"the task or variant holds a slash: {config.run_name}")


def check_training_moves_the_policy_alone(config: Config, domain: Domain | None = None) -> None:
    """Three steps are finite, move the policy, and leave the reference where it is."""
    domain = domain or build(config)
    objective = build_objective(config.objective, config.feedback, domain.dimensions)
    before = copy.deepcopy((domain.policy.state_dict(), domain.reference.state_dict()))
    take_steps(domain, objective, 3)
    moved, frozen = domain.policy.state_dict(), domain.reference.state_dict()
    require(not equal(before[0], moved), "three steps must move the policy")
    require(equal(before[1], frozen), "training must not move the reference, which the suite does")


def take_steps(domain: Domain, objective: Objective, count: int) -> None:
    """Train for a few steps."""
    trained = [p for p in domain.policy.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    for batch in itertools.islice(domain.train_dataloader(), count):
        loss = objective(domain.feedback(batch), domain.shares).loss
        require(loss.isfinite(), "the loss must be finite")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def equal(one: Any, other: Any) -> bool:
    """Tell whether two states are the same, tensors and all; NaN equals NaN."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    same: bool = one == other or (one != one and other != other)
    return same
