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
from suite.domains.language.chat import freeze_date
from suite.domains.language.diagnostics import (
    EVALUATED,
    is_pass_or_fail,
    pair_metrics,
    pass_metrics,
    top_means,
    weighted_mean,
)
from suite.domains.language.eval_part import eval_prompts
from suite.domains.language.generation import complete, decode, judge_completions, task_judge
from suite.domains.language.head import Statistics
from suite.domains.language.head_extras import Extra
from suite.domains.language.io import Text
from suite.domains.language.judges import build_judge
from suite.domains.language.models import Networks, as_reference, causal_lm, load_pair, save_pair
from suite.domains.language.online_config import LMConfig
from suite.domains.language.packing import Sequence, Tokens, pack
from suite.domains.language.pretraining import reference_folder
from suite.domains.language.sampling import SampledTokens
from suite.domains.language.scoring import can_share_prompts, check_model, check_start, compare
from suite.domains.language.tasks import build_task, prompt_file
from suite.feedback.feedback import Feedback, Labels, Shares, TokenFeedback
from suite.feedback.labelling import label_scores
from suite.feedback.running_shares import RunningShares
from suite.system import distributed
from suite.system.timing import timed

SHARE_WINDOW = 16_384  # samples over which the shares of the labels are averaged
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
        self.extra: tuple[Extra, ...] = ("reverse_kl",) if parts.reverse_kl else ()
        self.dimensions = None
        self.task = build_task(settings)
        self.prompts = eval_prompts(self.task or prompt_file(settings), settings.eval_part)
        start = settings.model.path
        if start is None:
            assert self.task is not None  # the configuration was checked
            start = str(reference_folder(settings, self.task, parts.cache / "references"))
        self.pair = load_pair(start, settings, "domain.model.path", parts.device)
        self.policy, self.reference, self.tokenizer = self.pair[:3]
        freeze_date(self.tokenizer, parts.started)
        self.networks = Networks(self.policy, self.reference, parts.precision)
        check_model(causal_lm(self.policy), "domain.model.path")
        self.prompt_sharing = can_share_prompts(causal_lm(self.policy), self.tokenizer.pad_token_id)
        self.judge = build_judge(settings, self.task, self.pair, Path(start), parts.cache)
        self.generator = torch.Generator().manual_seed(parts.seed)
        self.eval_seed = parts.seed + 1_000_000
        evaluation = torch.Generator().manual_seed(self.eval_seed)
        prompts, drawn, score = self.sample_completions(
            evaluation, settings.eval_prompts, held_out=True, split=False
        )
        self.held_out = self.labelled_batch(drawn, score)
        self.verified = is_pass_or_fail(
            self.final_scores(prompts, decode(self.tokenizer, drawn), score)
        )
        start = move_data_to_device(self.held_out, parts.device)
        check_start(
            *(self.networks, self.pair, start.tokens, start.score.numel(), "domain.model.path")
        )
        self.initial_logp = self.measure().reference_logp
        *_, score = self.sample_completions(
            self.generator, settings.share_prompts, held_out=False, split=False
        )
        self.true_shares = RunningShares(self.label(score).shares(), SHARE_WINDOW)
        self.batches_ahead: list[LMBatch] = []
        self.last_examples: list[dict[str, Any]] = []

    def train_dataloader(self) -> Iterator[LMBatch]:
        """Yield judged completions of training prompts, sampled from the reference."""
        while True:
            if not self.batches_ahead:
                with timed("sampling"):
                    self.batches_ahead = self.sample_ahead(self.settings.ahead)
            batch = self.batches_ahead.pop(0)
            self.true_shares.update(batch.labels)
            yield batch._replace(labels=self.label_noise.apply(batch.labels, self.shares))

    @property
    def shares(self) -> Shares:
        """The shares of the labels after swaps."""
        return self.label_noise.shares(self.true_shares.value)

    def sample_ahead(self, count: int) -> list[LMBatch]:
        """Sample and judge several batches at once, which keeps the sampler's slots busy."""
        size, samples = self.settings.prompts // distributed.world_size(), self.settings.samples
        prompts, drawn, score = self.sample_completions(
            self.generator, count * self.settings.prompts, held_out=False, split=True
        )
        return [
            self.labelled_batch(
                SampledTokens(
                    drawn.prompts[i : i + size],
                    drawn.completions[i * samples : (i + size) * samples],
                ),
                score[i : i + size],
            )
            for i in range(0, len(prompts), size)
        ]

    def labelled_batch(self, drawn: SampledTokens, score: Tensor) -> LMBatch:
        """Return a batch of completions with their true labels."""
        return LMBatch(self.pack(drawn), score, self.label(score))

    def label(self, score: Tensor) -> Labels:
        """Return the true labels of scores, [B, K] each."""
        rule = self.settings.labels
        return label_scores(score, rule.by, rule.threshold, rule.top, rule.bottom)

    def sample_completions(
        self, generator: torch.Generator, count: int, *, held_out: bool, split: bool
    ) -> tuple[list[Text], SampledTokens, Tensor]:
        """Return prompts, completions and scores [B, K]; with `split`, each rank does its part."""
        prompts = self.prompts.prompts(count, generator, held_out=held_out)
        prompts = distributed.local_slice(prompts) if split else prompts
        drawn = self.networks(self.reference_completions, prompts, generator, split)
        texts = decode(self.tokenizer, drawn)
        with timed("judging"):
            score = self.judge_scores(prompts, texts, self.settings.samples)
        return prompts, drawn, score

    def judge_scores(self, prompts: list[Text], texts: list[str], samples: int) -> Tensor:
        """Return the judge's scores of completions, [B, K]."""
        return judge_completions(self.judge, self.settings.judge, prompts, texts, samples)

    def final_scores(self, prompts: list[Text], texts: list[str], judged: Tensor) -> Tensor:
        """Return the task's own scores where there is a task, else the judge's, [B, K]."""
        if self.task is None or self.settings.judge == "exact":
            return judged
        judge = task_judge(self.task)
        return judge_completions(judge, "exact", prompts, texts, judged.shape[1])

    def reference_completions(
        self, prompts: list[Text], generator: torch.Generator, split: bool
    ) -> SampledTokens:
        """Sample completions from the reference."""
        settings = self.settings
        with as_reference(self.pair) as model:
            return complete(
                *(model, self.tokenizer, prompts, settings.samples, self.prompts.max_new_tokens),
                generator,
                split=split,
                temperature=settings.temperature,
                slots=settings.slots,
            )

    def pack(self, drawn: SampledTokens) -> Tokens:
        """Pack prompts and completions for one pass of the model."""
        samples = len(drawn.completions) // len(drawn.prompts)
        groups = [
            [
                Sequence(prompt + completion, len(prompt))
                for completion in drawn.completions[i * samples : (i + 1) * samples]
            ]
            for i, prompt in enumerate(drawn.prompts)
        ]
        return pack(groups, self.tokenizer.pad_token_id, self.prompt_sharing)

    def feedback(self, batch: LMBatch) -> Feedback:
        """Compare the policy with the reference on the labelled completions."""
        sums, tokens = self.compare(batch)
        shape, reverse_kl = batch.score.shape, sums.extra.get("reverse_kl")
        return Feedback(
            logp=sums.logp.view(shape),
            kl=sums.kl.view(shape).mean(1),
            accept=batch.labels.accept,
            reject=batch.labels.reject,
            reference_logp=sums.reference_logp.view(shape),
            tokens=tokens,
            score=batch.score,
            reverse_kl=None if reverse_kl is None else reverse_kl.view(shape).mean(1),
        )

    def compare(
        self, batch: LMBatch, divergence: str | None = None
    ) -> tuple[Statistics, TokenFeedback]:
        """Run both models on a batch; return sums over each completion, [B·K], and their tokens."""
        compared: tuple[Statistics, TokenFeedback] = self.networks(
            *(compare, self.pair, batch.tokens, batch.score.numel()),
            divergence=divergence or self.divergence,
            temperature=self.settings.temperature,
            extra=self.extra if divergence is None else EVALUATED,
        )
        return compared

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Measure held-out scores, and log π of the initial reference's samples.

        Likelihood is displaced where `logp_accepted` falls along with `logp_rejected`. The KL is
        from the initial reference: exact per token while the reference has not moved, else an
        estimate from samples. Margins, of pairs among the completions of a prompt, compare with the
        initial reference too. `pass_at_k` is there where the scores are those of a verifier.
        """
        statistics = self.measure()
        labels, tokens = self.held_out.labels, self.held_out.tokens.targets.numel()
        sign = (labels.accept.sign() - labels.reject.sign()).flatten()
        contexts = [i for i, row in enumerate(labels.accept) for _ in row]
        initial = self.initial_logp.to(statistics.logp.device)
        moved = not torch.allclose(initial, statistics.reference_logp, atol=1e-3, rtol=1e-3)
        kl = initial - statistics.logp if moved else statistics.kl
        return {
            **self.held_out_scores(self.settings.eval_samples),
            **self.held_out_scores(1, "greedy_", greedy=True),
            "kl": kl.mean().item(),
            "entropy": statistics.extra["entropy"].mean().item(),
            **top_means(statistics, tokens),
            "logp_accepted": weighted_mean(statistics.logp, labels.accept),
            "logp_rejected": weighted_mean(statistics.logp, labels.reject),
            **pair_metrics(statistics.logp - initial, sign, contexts),
        }

    @torch.no_grad()
    def measure(self) -> Statistics:
        """Compare the models on the initial reference's completions of held-out prompts."""
        held_out = move_data_to_device(self.held_out, causal_lm(self.policy).device)
        return self.compare(held_out, "forward")[0]

    def held_out_scores(
        self, samples: int, prefix: str = "", *, greedy: bool = False
    ) -> dict[str, float]:
        """Return the policy's mean score on held-out prompts, and the judge's if it differs."""
        settings = self.settings
        generator = torch.Generator().manual_seed(self.eval_seed)
        prompts = self.prompts.prompts(settings.eval_prompts, generator, held_out=True)
        drawn = self.networks(
            *(complete, causal_lm(self.policy), self.tokenizer, prompts, samples),
            self.prompts.max_new_tokens,
            generator,
            greedy=greedy,
            temperature=settings.temperature,
            slots=settings.slots,
        )
        texts = decode(self.tokenizer, drawn)
        judged = self.judge_scores(prompts, texts, samples)
        metrics, score = {}, self.final_scores(prompts, texts, judged)
        if self.task is not None and settings.judge != "exact":
            metrics[f"{prefix}judge_score"] = judged.mean().item()
        if not greedy and self.verified and is_pass_or_fail(score):
            metrics |= pass_metrics(score)
        if not greedy:
            metrics["length"] = sum(map(len, drawn.completions)) / len(drawn.completions)
            chosen = zip(prompts[:EXAMPLES], texts[::samples], judged[:, 0].tolist(), strict=False)
            self.last_examples = [{"prompt": p, "completion": t, "score": s} for p, t, s in chosen]
        return metrics | {f"{prefix}score": score.mean().item()}

    def examples(self) -> list[dict[str, Any]]:
        """Return a few held-out prompts with the policy's completions at the last evaluation."""
        return self.last_examples

    def save(self, folder: Path) -> None:
        """Write the trained policy as a folder that transformers (or peft) loads."""
        save_pair(self.pair, folder, self.settings.lora)

    def state_dict(self) -> dict[str, Any]:
        """Return the random stream, the label shares, and the batches that were sampled ahead."""
        return {
            "generator": self.generator.get_state(),
            "shares": list(self.true_shares.value),
            "waiting": [[list(batch.tokens), batch.score] for batch in self.batches_ahead],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.generator.set_state(state["generator"])
        self.true_shares.value = Shares(*state["shares"])
        self.batches_ahead = [
            LMBatch(Tokens(*tokens), score, self.label(score)) for tokens, score in state["waiting"]
        ]
