"""The rows domain: a language model learns from recorded feedback.

Shapes: B groups, K completions each, T completion tokens of the batch.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from suite.config.contracts import DomainParts
from suite.config.fields import ConfigError
from suite.domains.language.batching import (
    Encoded,
    RowsBatch,
    alike_in_length,
    batches,
    encode,
    rows_batch,
    weighed,
)
from suite.domains.language.builtin_rows import builtin_data
from suite.domains.language.chat import freeze_date
from suite.domains.language.diagnostics import EVALUATED, pair_metrics, top_means
from suite.domains.language.eval_part import part_of
from suite.domains.language.head import Statistics
from suite.domains.language.head_extras import Extra
from suite.domains.language.loading import longest_input
from suite.domains.language.models import Networks, causal_lm, load_pair, save_pair
from suite.domains.language.offline_config import RowsConfig
from suite.domains.language.schema import Group, load_rows
from suite.domains.language.scoring import can_share_prompts, check_model, check_start, compare
from suite.domains.language.splitting import split_by_prompt, warn_of_leaks
from suite.feedback.feedback import Feedback, Labels, Shares, TokenFeedback
from suite.objectives.bounds import smallest_beta
from suite.system import distributed

logger = logging.getLogger(__name__)


class Rows:
    """Learn from the rows of a file, in an order that the seed determines; nothing is sampled."""

    def __init__(self, settings: RowsConfig, parts: DomainParts) -> None:
        self.settings = settings
        self.label_noise = parts.label_noise
        self.divergence = parts.divergence
        self.extra: tuple[Extra, ...] = ("reverse_kl",) if parts.reverse_kl else ()
        self.seed = parts.seed
        self.dimensions = None
        name, data = settings.model, settings.data
        self.builtin = builtin_data(settings.builtin, parts.cache) if data.path is None else None
        if self.builtin is not None:
            name, data = name or str(self.builtin.model), self.builtin.data(data)
        assert name is not None  # the configuration was checked
        read = {key: load_rows(path, data, key) for key, path in data.files().items()}
        self.pair = load_pair(name, settings, "domain.model", parts.device)
        self.policy, self.reference, self.tokenizer = self.pair[:3]
        freeze_date(self.tokenizer, parts.started)
        self.networks = Networks(self.policy, self.reference, parts.precision)
        check_model(causal_lm(self.policy), "domain.model")
        self.prompt_sharing = can_share_prompts(causal_lm(self.policy), self.tokenizer.pad_token_id)
        counts: Counter[str] = Counter()
        encoded = [self.encode(groups, bad, counts) for groups, bad in read.values()]
        rows, self.held_out = self.split(*encoded)
        self.learn_from(rows)
        self.log_summary(counts)
        start = move_data_to_device(self.pack(self.rows[:2]), parts.device)
        check_start(self.networks, self.pair, start.tokens, start.accept.numel(), "domain.model")

    def learn_from(self, rows: list[Encoded]) -> None:
        """Take the training rows, with the weights and labels of the whole; raises ConfigError."""
        rows = weighed(rows)
        self.samples = max(len(row.labels) for row in rows)
        self.shares = self.label_noise.shares(self.label_shares(rows))
        self.rows = self.with_visible_labels(rows)
        self.state = {"epoch": 0, "position": 0}

    def encode(self, groups: list[Group], bad: list[str], counts: Counter[str]) -> list[Encoded]:
        """Return groups as token ids; count truncated completions and skipped rows in `counts`."""
        length, skip_bad = self.settings.max_length, self.settings.data.skip_bad
        limit = longest_input(causal_lm(self.policy))
        encoded = encode(groups, self.tokenizer, length, skip_bad, counts, limit)
        counts["left out"] += len(bad)
        if not encoded:
            raise ConfigError("domain.data: no row is left")
        return encoded

    def split(
        self, groups: list[Encoded], evaluation: list[Encoded] | None = None
    ) -> tuple[list[Encoded], list[Encoded]]:
        """Return training and evaluation groups; where `evaluation` is None, hold out a share.

        The share is one of the prompts, with all their rows, and the same for every seed. Raises
        ConfigError where no row is left for training.
        """
        share = 0.0 if evaluation else self.settings.data.held_out
        held_out, rows = split_by_prompt(groups, share)
        if evaluation:
            held_out = evaluation
            warn_of_leaks(rows, held_out)
        elif share and not held_out:
            logger.warning(
                "domain.data.held_out=%g of %s prompts is none: the evaluation is on training rows",
                *(share, len({group.prompt for group in rows})),
            )
        if not rows:
            raise ConfigError(
                f"domain.data.held_out={self.settings.data.held_out:g} leaves no rows to train on,"
                f" found {len(groups)} in all"
            )
        part = self.settings.eval_part
        held_out = part_of(held_out, part, lambda group: group.prompt, "held-out prompts")
        return rows, (held_out or rows)[: self.settings.eval_rows]

    def label_shares(self, rows: list[Encoded]) -> Shares:
        """Return the weighted shares of accepted and rejected completions; raises ConfigError."""
        total, mode = sum(g.weight * len(g.labels) for g in rows), self.label_noise.mode
        accepted, rejected = (
            sum(g.weight * sum(sign * x > 0 for x in g.labels) for g in rows) / total
            for sign in (1, -1)
        )
        neither = any(g.scores is None and 0 in g.labels for g in rows)
        if mode != "positive" and accepted and not rejected and neither:
            raise ConfigError(
                f"feedback={mode}: the labels are 1 and 0, and none is -1 or false. A completion"
                " with label 0 is neither accepted nor rejected; write false or -1 for rejected"
                " ones, or learn from the accepted ones alone with feedback=positive"
            )
        wanted = {"positive": accepted, "negative": rejected, "mixed": accepted + rejected}
        if not wanted[mode]:
            kind = {"positive": "accepted", "negative": "rejected", "mixed": "labelled"}
            raise ConfigError(f"feedback={mode} needs {kind[mode]} completions, and none is")
        return Shares(accepted, rejected)

    @property
    def visible_feedback(self) -> str:
        """The key `feedback`, or, where labels of one kind alone are there, that kind."""
        accepted, rejected = self.shares
        if accepted and rejected:
            return self.label_noise.mode
        return "positive" if accepted else "negative"

    def with_visible_labels(self, rows: list[Encoded]) -> list[Encoded]:
        """Return the rows with the labels that the learner sees, the same in every epoch."""
        generator = torch.Generator().manual_seed(self.seed)
        labels = torch.tensor([label for row in rows for label in row.labels])[:, None]
        true = Labels(labels.clamp(min=0), (-labels).clamp(min=0))
        seen = self.label_noise.apply(true, self.shares, generator)
        signed = iter((seen.accept - seen.reject).flatten().tolist())
        return [row._replace(labels=[next(signed) for _ in row.labels]) for row in rows]

    def log_summary(self, counts: dict[str, int]) -> None:
        """Log what the rows are, before training."""
        lengths = sorted(len(s.ids) - s.prompt for group in self.rows for s in group.sequences)
        accepted, rejected = self.shares
        logger.info(
            "%s completions of %s groups: %.0f %% accepted, %.0f %% rejected; %s to %s tokens, half"
            " below %s; %s truncated, %s rows left out, %s answers opened otherwise than the chat"
            " template asks for one; %s groups held out",
            *(len(lengths), len(self.rows), 100 * accepted, 100 * rejected),
            *(lengths[0], lengths[-1], lengths[len(lengths) // 2]),
            *(counts["truncated"], counts["left out"], counts["opened otherwise"]),
            len(self.held_out),
        )
        if self.visible_feedback != self.label_noise.mode:
            kind = "accepted" if accepted else "rejected"
            logger.info(
                "all labels are %s: they train as under feedback=%s", kind, self.visible_feedback
            )
        if rejected and self.label_noise.mode != "positive":
            logger.info(
                "rejected completions need β of at least 1/Z0 = %.3g in expectation; over many"
                " epochs of a fixed file see to objective.guard, or end at trainer.max_kl",
                smallest_beta(0.0, rejected),
            )

    def train_dataloader(self) -> Iterator[RowsBatch]:
        """Yield batches, epoch after epoch."""
        size, tokens = self.settings.batch_size, self.settings.tokens
        for groups, scale in batches(self.rows, size, tokens, self.seed, self.state):
            yield self.pack(distributed.local_slice(groups), scale)

    def pack(self, groups: list[Encoded], scale: float = 1.0) -> RowsBatch:
        """Return groups as a batch of weight `scale`."""
        pad = self.tokenizer.pad_token_id
        return rows_batch(groups, pad, self.prompt_sharing, scale, self.samples)

    def feedback(self, batch: RowsBatch) -> Feedback:
        """Compare the policy with the reference on the completions of a batch.

        The KL of a group is its sum over completions, divided by K for all groups alike. The
        reverse KL is the mean over the completions that are there.
        """
        shape = batch.accept.shape
        sums, tokens = self.compare(batch)
        reverse_kl = sums.extra.get("reverse_kl")
        if reverse_kl is not None:
            present = (~batch.score.isnan()).sum(1).clamp(min=1)
            reverse_kl = reverse_kl.view(shape).sum(1) / present
        return Feedback(
            logp=sums.logp.view(shape),
            kl=sums.kl.view(shape).mean(1),
            accept=batch.accept,
            reject=batch.reject,
            reference_logp=sums.reference_logp.view(shape),
            tokens=tokens,
            score=batch.score,
            weight=batch.weight,
            reverse_kl=reverse_kl,
        )

    def compare(
        self, batch: RowsBatch, divergence: str | None = None
    ) -> tuple[Statistics, TokenFeedback]:
        """Run both models on a batch; return sums over each completion, [B·K], and their tokens."""
        compared: tuple[Statistics, TokenFeedback] = self.networks(
            *(compare, self.pair, batch.tokens, batch.accept.numel()),
            divergence=divergence or self.divergence,
            extra=self.extra if divergence is None else EVALUATED,
        )
        return compared

    def diagnostics(self) -> dict[str, float]:
        """Return the number of the epoch, from 0."""
        return {"epoch": float(self.state["epoch"])}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Measure how log π per token of held-out completions changed since the start.

        `signed_change` is the mean over labelled completions, counted negatively for rejected ones;
        `change_accepted`, `change_rejected` and `change_neither` are the means over each kind, and
        where all fall, likelihood is displaced. `logp_accepted` and so on are the mean log π of
        whole completions, and pairs are of one prompt, in one row or in several. The score is the
        signed change, or, with the built-in rows, the accuracy of new samples.
        """
        groups, size, tokens = self.held_out, self.settings.batch_size, self.settings.tokens
        indices = alike_in_length(groups, list(range(len(groups))), size, tokens)
        ordered = [[groups[i] for i in part] for part in indices]
        parts, *columns = zip(*map(self.measure, ordered), strict=True)
        statistics = Statistics.joined(parts)
        length, sign = map(torch.cat, columns)
        prompts = [group.prompt for part in ordered for group in part for _ in group.labels]
        difference = statistics.logp - statistics.reference_logp
        change = difference / length
        metrics = {
            "score": average(sign * change, sign != 0),
            "signed_change": average(sign * change, sign != 0),
            "kl": statistics.kl.mean().item(),
            "entropy": (statistics.extra["entropy"].sum() / length.sum()).item(),
            **top_means(statistics, int(length.sum())),
            **pair_metrics(difference, sign, prompts),
        }
        for name, value in (("accepted", 1), ("rejected", -1), ("neither", 0)):
            if (where := sign == value).any():
                metrics[f"change_{name}"] = average(change, where)
                metrics[f"logp_{name}"] = average(statistics.logp, where)
                per_token = statistics.logp[where].sum() / length[where].sum()
                metrics[f"perplexity_{name}"] = (-per_token).exp().item()
        if self.builtin is not None:
            accuracy, part = self.builtin.accuracy, self.settings.eval_part
            metrics["score"] = self.networks(accuracy, causal_lm(self.policy), self.tokenizer, part)
        return metrics

    def measure(self, groups: list[Encoded]) -> tuple[Statistics, Tensor, Tensor]:
        """Return the statistics, number of tokens and sign of the label of each completion, [N]."""
        batch = self.pack(groups)
        batch = move_data_to_device(batch, next(self.policy.parameters()).device)
        length = torch.bincount(batch.tokens.owner, minlength=batch.accept.numel())
        sign = (batch.accept.sign() - batch.reject.sign()).flatten()
        present = ~batch.score.flatten().isnan()
        statistics = self.compare(batch, "forward")[0].map(lambda part: part[present])
        return statistics, length[present], sign[present]

    def save(self, folder: Path) -> None:
        """Write model (or adapter), tokenizer and model card."""
        save_pair(self.pair, folder, self.settings.lora)

    def state_dict(self) -> dict[str, Any]:
        """Return epoch and position in the rows."""
        return dict(self.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at an epoch and a position."""
        self.state.update(state)


def average(values: Tensor, where: Tensor) -> float:
    """Return the mean of the chosen values, 0 where there are none."""
    return values[where].mean().item() if where.any() else 0.0
