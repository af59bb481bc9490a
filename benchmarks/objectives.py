"""What each objective adds to a training step on rows, beside what PMPO costs there."""

import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.timing import compare, timed
from suite.config.loading import load
from suite.config.registry import OBJECTIVES
from suite.domains.base import build_domain
from suite.domains.language.batching import RowsBatch
from suite.domains.language.head_extras import Extra
from suite.domains.language.offline import Rows
from suite.feedback.feedback import Feedback, Shares
from suite.objectives.base import Objective, build_objective

ROWS = Path("configs/lm/rows.yaml")
ROUNDS = 200
ONLY_GAUSSIAN = ("mpo",)


class Cost(NamedTuple):
    """What an objective costs beside PMPO."""

    seconds: float
    """Median of the loss and its gradient by log π and the KL."""
    share: float
    """How much longer than PMPO's that is, as a share of PMPO's whole step."""


def measure(overrides: tuple[str, ...] = (), rounds: int = ROUNDS) -> dict[str, Cost]:
    """Return the costs of all objectives on one batch of the built-in rows, one thread."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        config = load(ROWS, ["objective={name: kto}", f"results_dir={folder}", *overrides])
        domain = build_domain(config, Path(folder))
    assert isinstance(domain, Rows)
    batch = next(domain.train_dataloader())
    feedback, pmpo = domain.feedback(batch), bound("pmpo")
    domain.extra = ()
    step = min(timed(lambda: whole_step(domain, batch, pmpo)) for _ in range(max(2, rounds // 20)))
    costs = {}
    for name in OBJECTIVES:
        if name in ONLY_GAUSSIAN:
            continue
        ours, theirs = (
            partial(loss_seconds, objective, feedback, domain.shares)
            for objective in (bound(name), pmpo)
        )
        pair = compare(ours, theirs, rounds)
        costs[name] = Cost(pair.ours, (pair.ours - pair.theirs) / step)
    reverse = reverse_kl_seconds(domain, batch, rounds)
    costs["kto"] = costs["kto"]._replace(share=costs["kto"].share + reverse / step)
    return costs


def bound(name: str) -> Objective:
    """Return an objective with its defaults."""
    config = load(ROWS, [f"objective={{name: {name}}}"])
    return build_objective(config.objective, config.feedback, None)


def whole_step(domain: Rows, batch: RowsBatch, objective: Objective) -> None:
    """Compare the models, and go back through policy and head."""
    torch.autograd.backward(objective(domain.feedback(batch), domain.shares).loss)


def loss_seconds(objective: Objective, feedback: Feedback, shares: Shares) -> float:
    """Return the seconds of the loss and its gradient by log π and the KL."""
    leaves = feedback._replace(
        logp=feedback.logp.detach().requires_grad_(), kl=feedback.kl.detach().requires_grad_()
    )
    return timed(lambda: torch.autograd.backward(objective(leaves, shares).loss))


def reverse_kl_seconds(domain: Rows, batch: RowsBatch, rounds: int) -> float:
    """Return the seconds that the reverse KL, which KTO asks for, adds to the forward pass."""

    def seconds(extra: tuple[Extra, ...]) -> float:
        domain.extra = extra
        return timed(lambda: domain.feedback(batch))

    pair = compare(lambda: seconds(("reverse_kl",)), lambda: seconds(()), max(2, rounds // 4))
    return pair.ours - pair.theirs
