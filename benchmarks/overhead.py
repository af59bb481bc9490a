"""Seconds per training step: the suite against bare torch doing only the same mathematics.

The suite runs as users run it, through `suite.train.train`, with metrics, progress and checkpoints
on their schedules. Evaluations before the first and after the last step are not counted. Bare torch
draws the same batches and takes the same steps with nothing around them. Within one run the two
take turns, a fraction of a second each, so that other load on the machine slows both.
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

from benchmarks.timing import Comparison, summarize, timed
from suite.config.contracts import DomainParts
from suite.config.loading import load
from suite.config.schema import Config
from suite.domains.bandit.functions import FUNCTIONS
from suite.domains.language.online import LanguageModel
from suite.domains.language.packing import attention_mask
from suite.feedback.label_noise import LabelNoise
from suite.train import train


class TakeTurns(L.Callback):
    """After every `calls` calls of the suite, take `steps` bare steps, and measure both.

    `pairs` holds seconds per step of the suite and of bare torch, without the first turn.
    """

    def __init__(self, step: Callable[[], object], calls: int, steps: int) -> None:
        self.step, self.calls, self.steps = step, calls, steps
        self.calls_done = 0
        self.turn_start: float | None = None
        self.pairs: list[tuple[float, float]] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """At the end of the suite's turn, take the bare steps."""
        self.calls_done += 1
        if self.calls_done % self.calls:
            return
        start = self.turn_start
        ours = None if start is None else time.perf_counter() - start
        theirs = timed(self.take_steps)
        if ours is not None:
            self.pairs.append((ours / self.steps, theirs / self.steps))
        self.turn_start = time.perf_counter()

    def take_steps(self) -> None:
        """Take the bare steps of one turn."""
        for _ in range(self.steps):
            self.step()


def compare_with_suite(
    step: Callable[[], object],
    path: str,
    folder: Path,
    *,
    turn: int,
    turns: int,
    overrides: Sequence[str] = (),
) -> Comparison:
    """Compare the suite's seconds per step with those of `step`, in turns of `turn` steps each."""
    schedule = [f"trainer.steps={turn * (turns + 1)}", "trainer.eval_every=100000"]
    sweep = Path(tempfile.mkdtemp(dir=folder)).name  # else an equal run would count as finished
    location = [f"results_dir={folder}", f"sweep={sweep}"]
    config = load(Path(path), [*schedule, "feedback=mixed", *location, *overrides])
    take_turns = TakeTurns(step, turn // config.trainer.steps_per_call, turn)
    train(config, callbacks=[take_turns])
    return summarize(take_turns.pairs)


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
        config.domain,
        DomainParts(LabelNoise("mixed"), "forward", 0, folder, torch.device("cpu")),
    )
    policy: Any = copy.deepcopy(domain.reference).requires_grad_(True)
    reference: Any = domain.reference
    accepted_share, rejected_share = domain.shares
    beta = 0.5 / rejected_share
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    batches = domain.train_dataloader()

    def step() -> None:
        tokens, score, _ = next(batches)
        mask = attention_mask(tokens, policy)

        def logprobs(model: Any) -> torch.Tensor:
            states = model.model(
                input_ids=tokens.input_ids,
                attention_mask=mask,
                position_ids=tokens.positions,
                use_cache=False,
            ).last_hidden_state
            logits: torch.Tensor = model.lm_head(states.flatten(0, 1)[tokens.state_index])
            return logits.log_softmax(-1)

        ours = logprobs(policy)
        with torch.no_grad():
            theirs = logprobs(reference)
        empty = torch.zeros(score.numel())
        chosen = ours.gather(-1, tokens.targets[:, None])[:, 0]
        logp = empty.index_add(0, tokens.owner, chosen)
        per_token = (theirs.exp() * (theirs - ours)).sum(-1)
        kl = empty.index_add(0, tokens.owner, per_token).mean()
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
    """Return seconds per step of the suite and of bare torch, for two domains."""
    torch.set_num_threads(1)
    lm, bandit = "configs/lm/arithmetic.yaml", "configs/bandit/sphere.yaml"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        step = bare_lm(load(Path(lm)), folder)
        lm_comparison = compare_with_suite(step, lm, folder, turn=2, turns=50)
        step = bare_bandit(load(Path(bandit)))
        bandit_comparison = compare_with_suite(step, bandit, folder, turn=100, turns=50)
    return {"language model": lm_comparison, "bandit": bandit_comparison}
