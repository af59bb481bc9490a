"""Seconds per training step: the suite against bare torch doing only the same mathematics.

The suite's side is `suite.train.train` as users run it, with metrics, progress and checkpoints on
their schedules; evaluations before the first and after the last step are not counted. The bare
side draws the same batches and takes the same steps with nothing around them.
"""

import copy
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch

from benchmarks.timing import Comparison, compare
from suite.config import Config, load
from suite.domains.bandit.functions import FUNCTIONS
from suite.domains.lm.domain import LanguageModel
from suite.domains.lm.sampling import positions
from suite.train import train

WARM = 10  # steps that are not counted
ROUNDS = 5


class Stopwatch(L.Callback):
    """Note when each step ends, or each call that takes several."""

    def __init__(self, steps: int = 1) -> None:
        self.steps = steps
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())

    def seconds_per_step(self) -> float:
        """Return the mean, without the first steps."""
        warm = math.ceil(WARM / self.steps)
        return (self.times[-1] - self.times[warm]) / (len(self.times) - 1 - warm) / self.steps


def suite_steps(
    path: str, steps: int, folder: Path, more: Sequence[str] = (), label: str = "round"
) -> Callable[[], float]:
    """Return a measurement of the suite's seconds per step."""
    count = iter(range(1000))

    def measure() -> float:
        overrides = [f"trainer.steps={steps}", "trainer.eval_every=100000", "feedback=mixed", *more]
        where = [f"results_dir={folder}", f"sweep={label}{next(count)}"]
        config = load(Path(path), [*overrides, *where])
        stopwatch = Stopwatch(config.trainer.steps_per_call)
        train(config, callbacks=[stopwatch])
        return stopwatch.seconds_per_step()

    return measure


def bare_steps(step: Callable[[], object], steps: int) -> float:
    """Return the seconds per step of a bare loop."""
    stopwatch = Stopwatch()
    for _ in range(steps):
        step()
        stopwatch.on_train_batch_end()
    return stopwatch.seconds_per_step()


def bare_bandit(config: Config) -> Callable[[], None]:
    """Return one step of mixed PMPO on the bandit in bare torch."""
    settings, generator = config.domain, torch.Generator().manual_seed(0)
    function, width = FUNCTIONS[settings.function]
    mean = (1.6 * torch.rand(settings.dimensions) - 0.8).requires_grad_(True)
    log_std = torch.full((settings.dimensions,), math.log(settings.initial_std), requires_grad=True)
    reference = [mean.detach().clone(), log_std.detach().clone()]
    optimizer = torch.optim.AdamW([mean, log_std], lr=0.03, weight_decay=0.0, fused=True)
    shape = (settings.contexts, settings.samples, settings.dimensions)

    def step() -> None:
        reference_std = reference[1].exp() + 1e-3
        x = reference[0] + reference_std * torch.randn(shape, generator=generator)
        score = -function(x.clamp(-1, 1) * width)
        rank = score.argsort(1, descending=True).argsort(1)
        accept, reject = (rank < 2).float(), (rank >= 2).float()
        std = log_std.exp() + 1e-3
        logp = -0.5 * ((x - mean) / std).square().sum(-1) - std.log().sum()
        ratio = (reference_std / std).square()
        shift = ((reference[0] - mean) / std).square()
        kl = 0.5 * (shift + ratio - 1 - ratio.log()).sum()
        accepted = ((accept * logp).sum(1) / accept.sum(1)).mean()
        rejected = ((reject * logp).sum(1) / reject.sum(1)).mean()
        loss = -0.5 * accepted + 0.5 * rejected + kl
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        for kept, fresh in zip(reference, (mean, log_std), strict=True):
            kept.lerp_(fresh.detach(), 0.05)

    return step


def bare_lm(config: Config, folder: Path) -> Callable[[], None]:
    """Return one step of mixed PMPO on the language model in bare torch."""
    domain = LanguageModel(
        config.domain, feedback="mixed", divergence="forward", seed=0, cache=folder
    )
    policy, batches = copy.deepcopy(domain.reference).requires_grad_(True), None
    accepted_share, rejected_share = domain.shares
    beta = 0.5 / rejected_share
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    batches = domain.train_dataloader()

    def step() -> None:
        drawn, score, reference = next(batches)
        length = drawn.completion_mask.shape[1]
        logits = policy(
            input_ids=drawn.input_ids,
            attention_mask=drawn.attention_mask,
            position_ids=positions(drawn.attention_mask),
            use_cache=False,
            logits_to_keep=length + 1,
        ).logits[:, :-1]
        logprobs = logits.log_softmax(-1)
        chosen = logprobs.gather(-1, drawn.input_ids[:, -length:, None])[..., 0]
        logp = (chosen * drawn.completion_mask).sum(1)
        per_token = (reference.exp() * (reference - logprobs)).sum(-1)
        kl = (per_token * drawn.completion_mask).sum(1).mean()
        label = score.flatten()
        accepted = (label * logp).mean() / accepted_share
        rejected = ((1 - label) * logp).mean() / rejected_share
        loss = -0.5 * accepted + 0.5 * rejected + beta * kl
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()

    return step


def measure() -> dict[str, Comparison]:
    """Return seconds per step of the suite and of bare torch, for both domains."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lm, bandit = "configs/lm/arithmetic.yaml", "configs/bandit/sphere.yaml"
        step = bare_lm(load(Path(lm)), folder)
        of_lm = compare(suite_steps(lm, 60, folder), lambda: bare_steps(step, 60), ROUNDS)
        step = bare_bandit(load(Path(bandit)))
        of_bandit = compare(
            suite_steps(bandit, 1000, folder), lambda: bare_steps(step, 1000), ROUNDS
        )
    return {"language model": of_lm, "bandit": of_bandit}
