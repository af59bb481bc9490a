"""The language-model domain: prompts, completions sampled from the reference, and a judge.

Shapes: B prompts, K samples per prompt, C completion tokens, V vocabulary.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from suite import ranks
from suite.domains.lm.config import LMConfig
from suite.domains.lm.policy import SequenceStatistics, sequence_statistics, token_logprobs
from suite.domains.lm.reference import reference_model, save_folder
from suite.domains.lm.rollout import complete, held_out_accuracy, judge
from suite.domains.lm.sampling import Completions
from suite.domains.lm.tasks import build_task
from suite.feedback import Feedback, Shares, label_by_threshold

SHARE_WINDOW = 16_384  # samples over which the shares of the labels are averaged
EVAL_SAMPLES = 4


class LMBatch(NamedTuple):
    """Judged completions of a batch of prompts."""

    completions: Completions  # B·K rows
    score: Tensor  # [B, K], 1 where the judge prefers the completion, else 0
    reference_logprobs: Tensor  # [B·K, C, V]


class LanguageModel:
    """Sample from the reference, judge, and compare the policy with the reference per token."""

    def __init__(
        self, settings: LMConfig, *, feedback: str, divergence: str, seed: int, cache: Path
    ) -> None:
        self.settings = settings
        self.feedback_mode = feedback
        self.divergence = divergence
        self.dimensions = None
        self.task = build_task(settings)
        self.reference, self.tokenizer = reference_model(settings, self.task, cache / "references")
        self.reference.requires_grad_(False).eval()
        self.policy = copy.deepcopy(self.reference).requires_grad_(True)
        self.generator = torch.Generator().manual_seed(seed)
        self.eval_seed = seed + 1_000_000
        evaluation = torch.Generator().manual_seed(self.eval_seed)
        self.held_out = self.draw(evaluation, settings.eval_prompts, held_out=True)
        first = self.draw(self.generator, settings.share_prompts, held_out=False)
        accepted = first.score.mean().item()
        self.shares = Shares(accepted, 1 - accepted)

    def train_dataloader(self) -> Iterator[LMBatch]:
        """Yield judged completions of training prompts, sampled from the reference."""
        while True:
            batch = self.draw(self.generator, self.settings.prompts, held_out=False, share=True)
            self.update_shares(batch.score)
            yield batch

    def update_shares(self, score: Tensor) -> None:
        """Average the label shares over a long window: they move when the reference does."""
        rate = min(1.0, ranks.count() * score.numel() / SHARE_WINDOW)
        accepted = ranks.mean(score.mean().item())
        accepted = self.shares.accept + rate * (accepted - self.shares.accept)
        self.shares = Shares(accepted, 1 - accepted)

    @torch.no_grad()
    def draw(
        self, generator: torch.Generator, count: int, *, held_out: bool, share: bool = False
    ) -> LMBatch:
        """Draw prompts, K completions each from the reference, and judge them.

        Ranks `share` the prompts, or do all the same.
        """
        prompts = self.task.prompts(count, generator, held_out=held_out)
        prompts = ranks.part(prompts) if share else prompts
        completions = complete(
            *(self.reference, self.tokenizer, self.task, prompts, self.settings.samples, generator),
            share=share,
        )
        score = judge(self.task, self.tokenizer, prompts, completions)
        return LMBatch(completions, score, token_logprobs(self.reference, completions))

    def feedback(self, batch: LMBatch) -> Feedback:
        """Accept the completions that the judge prefers, reject the others."""
        labels = label_by_threshold(batch.score, 0.5).visible(self.feedback_mode)
        statistics = self.statistics(batch, self.divergence)
        shape = batch.score.shape
        mask = batch.completions.completion_mask
        targets = batch.completions.input_ids[:, -mask.shape[1] :, None]
        reference = batch.reference_logprobs.gather(-1, targets)[..., 0]
        return Feedback(
            logp=statistics.logp.view(shape),
            kl=statistics.kl.view(shape).mean(1),
            accept=labels.accept,
            reject=labels.reject,
            reference_logp=(reference * mask).sum(1).view(shape),
            score=batch.score,
        )

    def statistics(self, batch: LMBatch, divergence: str) -> SequenceStatistics:
        """Compare the policy with the reference on a batch, [B·K] each."""
        logprobs = token_logprobs(self.policy, batch.completions)
        return sequence_statistics(
            logprobs, batch.reference_logprobs, batch.completions, divergence
        )

    def auxiliary_losses(self, batch: LMBatch) -> dict[str, Tensor]:
        """Return nothing: the policy is all there is."""
        return {}

    def diagnostics(self) -> dict[str, float]:
        """Return nothing: the loss says it all."""
        return {}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Measure held-out accuracy, and how samples of the first reference fare under the policy.

        `logp_accepted` falling along with `logp_rejected` is likelihood displacement.
        """
        held_out = move_data_to_device(self.held_out, self.policy.device)
        statistics = self.statistics(held_out, "forward")
        accepted = held_out.score.flatten()
        rejected = 1 - accepted
        return {
            "score": self.accuracy(EVAL_SAMPLES),
            "greedy_accuracy": self.accuracy(1, greedy=True),
            "kl": statistics.kl.mean().item(),
            "entropy": statistics.entropy.mean().item(),
            "logp_accepted": average(statistics.logp, accepted),
            "logp_rejected": average(statistics.logp, rejected),
        }

    def accuracy(self, samples: int, greedy: bool = False) -> float:
        """Return the policy's share of preferred completions of held-out prompts."""
        return held_out_accuracy(
            self.policy,
            self.tokenizer,
            self.task,
            prompts=self.settings.eval_prompts,
            samples=samples,
            seed=self.eval_seed,
            greedy=greedy,
        )

    def save(self, folder: Path) -> None:
        """Write the trained policy as a folder that transformers loads."""
        save_folder(self.policy, self.tokenizer, folder)

    def state_dict(self) -> dict[str, Any]:
        """Return the random stream and the label shares."""
        return {"generator": self.generator.get_state(), "shares": list(self.shares)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the random stream and the label shares."""
        self.generator.set_state(state["generator"])
        self.shares = Shares(*state["shares"])


def average(values: Tensor, weight: Tensor) -> float:
    """Return the weighted mean, 0 where nothing weighs."""
    return ((values * weight).sum() / weight.sum().clamp(min=1)).item()
