"""Seconds per training step: the suite against bare torch doing only the same mathematics.

The suite's side is `suite.train.train` as users run it, with metrics, progress and checkpoints on
their schedules; evaluations before the first and after the last step are not counted. The bare
side draws the same batches and takes the same steps with nothing around them. Within one run the
two take turns, a fraction of a second each, so that what else the machine does meets both.
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
    """After every few calls of the suite, take as many bare steps, and note both times.

    `pairs` holds seconds per step of the suite and of the other, without the first turn.
    """

    def __init__(self, step: Callable[[], object], calls: int, steps: int) -> None:
        self.step, self.calls, self.steps = step, calls, steps
        self.seen = 0
        self.began: float | None = None
        self.pairs: list[tuple[float, float]] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Let the other side work, where it is its turn."""
        self.seen += 1
        if self.seen % self.calls:
            return
        ours = None if self.began is None else time.perf_counter() - self.began
        theirs = timed(self.take_steps)
        if ours is not None:
            self.pairs.append((ours / self.steps, theirs / self.steps))
        self.began = time.perf_counter()

    def take_steps(self) -> None:
        """Take the other side's steps of one turn."""
        for _ in range(self.steps):
            self.step()


def against(
    step: Callable[[], object],
    path: str,
    folder: Path,
    *,
    turn: int,
    turns: int,
    more: Sequence[str] = (),
) -> Comparison:
    """Compare the suite's seconds per step with those of `step`, in turns of so many steps."""
    plan = [f"trainer.steps={turn * (turns + 1)}", "trainer.eval_every=100000", "feedback=mixed"]
    own = Path(tempfile.mkdtemp(dir=folder)).name  # or an equal run would be finished already
    where = [f"results_dir={folder}", f"sweep={own}"]
    config = load(Path(path), [*plan, *where, *more])
    calls = turn // config.trainer.steps_per_call
    watch = TakeTurns(step, calls, turn)
    train(config, callbacks=[watch])
    return summarize(watch.pairs)


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
            found: torch.Tensor = model.lm_head(states.flatten(0, 1)[tokens.state_index])
            return found.log_softmax(-1)

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
        bare = bare_lm(load(Path(lm)), folder)
        of_lm = against(bare, lm, folder, turn=2, turns=50)
        bare = bare_bandit(load(Path(bandit)))
        of_bandit = against(bare, bandit, folder, turn=100, turns=50)
    return {"language model": of_lm, "bandit": of_bandit}
