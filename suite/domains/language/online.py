"""The language-model domain: prompts, completions sampled from the reference, and a judge.

Shapes: B prompts, K samples per prompt.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from suite.config.contracts import DomainParts
from suite.domains.language.generation import complete, decoded, scores_of, task_judge
from suite.domains.language.head import Statistics
from suite.domains.language.io import Text
from suite.domains.language.judges import build_judge
from suite.domains.language.models import Networks, as_reference, inner, load_pair, save_pair
from suite.domains.language.online_config import LabelRuleConfig, LMConfig
from suite.domains.language.packing import Sequence, Tokens, collate
from suite.domains.language.pretraining import reference_folder
from suite.domains.language.sampling import Drawn
from suite.domains.language.scoring import can_share, check_model, compare
from suite.domains.language.tasks import build_task, prompt_file
from suite.feedback.feedback import Feedback, Labels, Shares, TokenFeedback
from suite.feedback.labelling import label_by_rank, label_by_threshold
from suite.feedback.running_shares import RunningShares
from suite.system import distributed
from suite.system.timing import timed

SHARE_WINDOW = 16_384  # samples over which the shares of the labels are averaged
EVAL_SAMPLES = 4
EXAMPLES = 8


class LMBatch(NamedTuple):
    """Judged completions of a batch of prompts."""

    tokens: Tokens  # B·K sequences
    score: Tensor  # [B, K]
    labels: Labels  # [B, K] each, as the learner sees them


class LanguageModel:
    """Sample from the reference, judge, and compare the policy with the reference per token."""

    def __init__(self, settings: LMConfig, parts: DomainParts) -> None:
        self.settings = settings
        self.label_noise = parts.label_noise
        self.divergence = parts.divergence
        self.dimensions = None
        self.task = build_task(settings)
        self.prompts = self.task or prompt_file(settings)
        start = settings.model.path
        if start is None:
            assert self.task is not None  # the configuration was checked
            start = str(reference_folder(settings, self.task, parts.cache / "references"))
        self.pair = load_pair(start, settings, "domain.model.path", parts.device)
        self.policy, self.reference, self.tokenizer = self.pair
        self.networks = Networks(self.policy, self.reference)
        check_model(inner(self.policy), "domain.model.path")
        self.share_prompt = can_share(inner(self.policy), self.tokenizer.pad_token_id)
        self.judge = build_judge(settings, self.task, self.pair, Path(start), parts.cache)
        self.generator = torch.Generator().manual_seed(parts.seed)
        self.eval_seed = parts.seed + 1_000_000
        evaluation = torch.Generator().manual_seed(self.eval_seed)
        self.held_out = self.draw(evaluation, settings.eval_prompts, held_out=True)
        self.start_logp = self.measure().reference_logp
        first = self.draw(self.generator, settings.share_prompts, held_out=False)
        self.true_shares = RunningShares(shares_of(first.labels), SHARE_WINDOW)
        self.waiting: list[LMBatch] = []  # sampled ahead
        self.last_examples: list[dict[str, Any]] = []

    def train_dataloader(self) -> Iterator[LMBatch]:
        """Yield judged completions of training prompts, sampled from the reference."""
        plan = self.settings
        while True:
            if not self.waiting:
                with timed("sampling"):
                    self.waiting = self.draw_several(plan.ahead)
            batch = self.waiting.pop(0)
            self.true_shares.update(batch.labels)
            yield batch._replace(labels=self.label_noise.apply(batch.labels, self.shares))

    @property
    def shares(self) -> Shares:
        """The shares of the labels after swaps."""
        return self.label_noise.shares(self.true_shares.value)

    def draw_several(self, count: int) -> list[LMBatch]:
        """Draw and judge several batches at once, which fill the sampler's slots better."""
        size, samples = self.settings.prompts // distributed.world_size(), self.settings.samples
        prompts, drawn, score = self.sampled(
            self.generator, count * self.settings.prompts, held_out=False, share=True
        )
        return [
            self.judged(
                Drawn(
                    drawn.prompts[i : i + size],
                    drawn.completions[i * samples : (i + size) * samples],
                ),
                score[i : i + size],
            )
            for i in range(0, len(prompts), size)
        ]

    def draw(self, generator: torch.Generator, count: int, *, held_out: bool) -> LMBatch:
        """Draw prompts, K completions each from the reference, and judge them."""
        _, drawn, score = self.sampled(generator, count, held_out=held_out, share=False)
        return self.judged(drawn, score)

    def judged(self, drawn: Drawn, score: Tensor) -> LMBatch:
        """Return a batch of completions with their true labels."""
        return LMBatch(self.pack(drawn), score, labels_of(score, self.settings.labels))

    def sampled(
        self, generator: torch.Generator, count: int, *, held_out: bool, share: bool
    ) -> tuple[list[Text], Drawn, Tensor]:
        """Return prompts, completions and scores [B, K]; ranks `share` the prompts, or do all."""
        plan = self.settings
        prompts = self.prompts.prompts(count, generator, held_out=held_out)
        prompts = distributed.local_slice(prompts) if share else prompts
        drawn = self.networks(self.reference_completions, prompts, generator, share)
        texts = decoded(self.tokenizer, drawn)
        with timed("judging"):
            score = scores_of(self.judge, plan.judge, prompts, texts, plan.samples)
        return prompts, drawn, score

    def reference_completions(
        self, prompts: list[Text], generator: torch.Generator, share: bool
    ) -> Drawn:
        """Complete prompts with the reference."""
        plan = self.settings
        with as_reference(self.pair) as model:
            return complete(
                *(model, self.tokenizer, prompts, plan.samples, self.prompts.max_new_tokens),
                generator,
                share=share,
                temperature=plan.temperature,
                slots=plan.slots,
            )

    def pack(self, drawn: Drawn) -> Tokens:
        """Lay completions side by side, as the model can take them."""
        samples = len(drawn.completions) // len(drawn.prompts)
        groups = [
            [
                Sequence(prompt + completion, len(prompt))
                for completion in drawn.completions[i * samples : (i + 1) * samples]
            ]
            for i, prompt in enumerate(drawn.prompts)
        ]
        return collate(groups, self.tokenizer.pad_token_id, self.share_prompt)

    def feedback(self, batch: LMBatch) -> Feedback:
        """Compare the policy with the reference on the labelled completions."""
        found, tokens = self.compare(batch)
        shape = batch.score.shape
        return Feedback(
            logp=found.logp.view(shape),
            kl=found.kl.view(shape).mean(1),
            accept=batch.labels.accept,
            reject=batch.labels.reject,
            reference_logp=found.reference_logp.view(shape),
            tokens=tokens,
            score=batch.score,
        )

    def compare(
        self, batch: LMBatch, divergence: str | None = None
    ) -> tuple[Statistics, TokenFeedback]:
        """Compare the policy with the reference on a batch, [B·K] each."""
        found: tuple[Statistics, TokenFeedback] = self.networks(
            *(compare, self.pair, batch.tokens, batch.score.numel()),
            divergence=divergence or self.divergence,
            temperature=self.settings.temperature,
            entropy=divergence is not None,
        )
        return found

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Measure held-out scores, and how samples of the first reference fare under the policy.

        `logp_accepted` falling along with `logp_rejected` is likelihood displacement. The KL is to
        the first reference: exact per token while that is still the reference, else estimated.
        """
        statistics = self.measure()
        labels = self.held_out.labels
        first = self.start_logp.to(statistics.logp.device)
        moved = not torch.allclose(first, statistics.reference_logp, atol=1e-3, rtol=1e-3)
        kl = first - statistics.logp if moved else statistics.kl
        return {
            **self.held_out_scores(EVAL_SAMPLES),
            **self.held_out_scores(1, "greedy_", greedy=True),
            "kl": kl.mean().item(),
            "entropy": statistics.entropy.mean().item(),
            "logp_accepted": average(statistics.logp, labels.accept),
            "logp_rejected": average(statistics.logp, labels.reject),
        }

    @torch.no_grad()
    def measure(self) -> Statistics:
        """Compare on the first reference's completions of held-out prompts."""
        held_out = move_data_to_device(self.held_out, inner(self.policy).device)
        return self.compare(held_out, "forward")[0]

    def held_out_scores(self, samples: int, prefix: str = "", **how: bool) -> dict[str, float]:
        """Return the policy's mean score on held-out prompts; the judge's too if it is another."""
        plan = self.settings
        generator = torch.Generator().manual_seed(self.eval_seed)
        prompts = self.prompts.prompts(plan.eval_prompts, generator, held_out=True)
        drawn = self.networks(
            *(complete, inner(self.policy), self.tokenizer, prompts, samples),
            self.prompts.max_new_tokens,
            generator,
            temperature=plan.temperature,
            slots=plan.slots,
            **how,
        )
        texts = decoded(self.tokenizer, drawn)
        judged = scores_of(self.judge, plan.judge, prompts, texts, samples)
        found, score = {}, judged
        if self.task is not None and plan.judge != "exact":
            found[f"{prefix}judge_score"] = judged.mean().item()
            score = scores_of(task_judge(self.task), "exact", prompts, texts, samples)
        if not how:
            found["length"] = sum(map(len, drawn.completions)) / len(drawn.completions)
            chosen = zip(prompts[:EXAMPLES], texts[::samples], judged[:, 0].tolist(), strict=False)
            self.last_examples = [{"prompt": p, "completion": t, "score": s} for p, t, s in chosen]
        return found | {f"{prefix}score": score.mean().item()}

    def examples(self) -> list[dict[str, Any]]:
        """Return a few held-out prompts with what the policy said at the last evaluation."""
        return self.last_examples

    def save(self, folder: Path) -> None:
        """Write the trained policy as a folder that transformers (or peft) loads."""
        save_pair(self.pair, folder, self.settings.lora.merge)

    def state_dict(self) -> dict[str, Any]:
        """Return the random stream, the label shares, and what was sampled ahead."""
        return {
            "generator": self.generator.get_state(),
            "shares": list(self.true_shares.value),
            "waiting": [[list(batch.tokens), batch.score] for batch in self.waiting],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there."""
        self.generator.set_state(state["generator"])
        self.true_shares.value = Shares(*state["shares"])
        self.waiting = [
            LMBatch(Tokens(*tokens), score, labels_of(score, self.settings.labels))
            for tokens, score in state["waiting"]
        ]


def labels_of(score: Tensor, plan: LabelRuleConfig) -> Labels:
    """Return the labels that scores [B, K] mean."""
    if plan.by == "threshold":
        return label_by_threshold(score, plan.threshold)
    if plan.by == "ranks":
        return label_by_rank(score, plan.top, plan.bottom)
    above = score - score.mean(1, keepdim=True)
    return Labels((above > 0).to(score.dtype), (above < 0).to(score.dtype))


def shares_of(labels: Labels) -> Shares:
    """Return the shares of accepted and rejected samples."""
    return Shares(labels.accept.mean().item(), labels.reject.mean().item())


def average(values: Tensor, weight: Tensor) -> float:
    """Return the weighted mean, 0 where nothing weighs."""
    weight = weight.flatten().to(values.device)
    return ((values * weight).sum() / weight.sum().clamp(min=1)).item()
