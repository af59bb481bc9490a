"""The rows domain: a language model learns from feedback that is there already.

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
from suite.domains.language import batching as encoding
from suite.domains.language.batching import Encoded, RowsBatch
from suite.domains.language.builtin_rows import builtin_data
from suite.domains.language.head import Statistics
from suite.domains.language.models import Networks, inner, load_pair, save_pair
from suite.domains.language.offline_config import RowsConfig
from suite.domains.language.schema import Group, load_rows
from suite.domains.language.scoring import can_share, check_model, compare
from suite.feedback.feedback import Feedback, Labels, Shares, TokenFeedback
from suite.objectives.pmpo import smallest_beta
from suite.system import distributed

logger = logging.getLogger(__name__)


class Rows:
    """Batches of a file's rows, in an order that the seed fixes; nothing is sampled."""

    def __init__(self, settings: RowsConfig, parts: DomainParts) -> None:
        self.settings = settings
        self.label_noise = parts.label_noise
        self.divergence = parts.divergence
        self.seed = parts.seed
        self.dimensions = None
        name, data = settings.model, settings.data
        self.builtin = builtin_data(settings.builtin, parts.cache) if data.path is None else None
        if self.builtin is not None:
            name, data = name or str(self.builtin.model), self.builtin.data(data)
        assert name is not None  # the configuration was checked
        read = {key: load_rows(path, data, key) for key, path in data.files().items()}
        self.pair = load_pair(name, settings, "domain.model", parts.device)
        self.policy, self.reference, self.tokenizer = self.pair
        self.networks = Networks(self.policy, self.reference)
        check_model(inner(self.policy), "domain.model")
        self.share = can_share(inner(self.policy), self.tokenizer.pad_token_id)
        counts: Counter[str] = Counter()
        encoded = [self.encode(*each, counts) for each in read.values()]
        rows, self.held_out = self.split(*encoded)
        self.shares = parts.label_noise.shares(self.label_shares(rows))
        self.rows = self.with_visible_labels(rows)
        self.tell(counts)
        self.state = {"epoch": 0, "position": 0}

    def encode(self, groups: list[Group], bad: list[str], counts: Counter[str]) -> list[Encoded]:
        """Return groups as tokens, and count what was cut and left out."""
        plan = self.settings
        found = encoding.encode(groups, self.tokenizer, plan.max_length, plan.data.skip_bad, counts)
        counts["left out"] += len(bad)
        return encoding.flattened(found)

    def split(
        self, groups: list[Encoded], evaluation: list[Encoded] | None = None
    ) -> tuple[list[Encoded], list[Encoded]]:
        """Keep a share for evaluation where no others are given; the same for every seed."""
        generator = torch.Generator().manual_seed(0)
        shuffled = [groups[i] for i in torch.randperm(len(groups), generator=generator).tolist()]
        count = 0 if evaluation else round(self.settings.data.held_out * len(groups))
        held_out, rows = evaluation or shuffled[:count], shuffled[count:]
        if len(rows) < self.settings.batch_size:
            raise ConfigError(
                f"domain.batch_size={self.settings.batch_size} needs as many groups of rows, found"
                f" {len(rows)}"
            )
        return rows, (held_out or rows)[: self.settings.eval_rows]

    def label_shares(self, rows: list[Encoded]) -> Shares:
        """Return the weighted shares of accepted and rejected completions; raises ConfigError."""
        total, mode = sum(len(group.labels) for group in rows), self.label_noise.mode
        accepted = sum(g.weight * sum(x > 0 for x in g.labels) for g in rows) / total
        rejected = sum(g.weight * sum(x < 0 for x in g.labels) for g in rows) / total
        wanted = {"positive": accepted, "negative": rejected, "mixed": accepted + rejected}
        if not wanted[mode]:
            what = {"positive": "accepted", "negative": "rejected", "mixed": "labelled"}
            raise ConfigError(
                f"feedback={mode} needs {what[mode]} completions, and none of the {total} is"
            )
        return Shares(accepted, rejected)

    def with_visible_labels(self, rows: list[Encoded]) -> list[Encoded]:
        """Return the rows with the labels that the learner sees, the same in every epoch."""
        generator = torch.Generator().manual_seed(self.seed)
        labels = torch.tensor([label for row in rows for label in row.labels])[:, None]
        true = Labels(labels.clamp(min=0), (-labels).clamp(min=0))
        seen = self.label_noise.apply(true, self.shares, generator)
        signed = iter((seen.accept - seen.reject).flatten().tolist())
        return [row._replace(labels=[next(signed) for _ in row.labels]) for row in rows]

    def tell(self, counts: dict[str, int]) -> None:
        """Say what the rows are, before training."""
        lengths = sorted(len(s.ids) - s.prompt for group in self.rows for s in group.sequences)
        accepted, rejected = self.shares
        logger.info(
            "%s completions of %s groups: %.0f %% accepted, %.0f %% rejected; %s to %s tokens, half"
            " below %s; %s truncated, %s rows left out; %s groups held out",
            *(len(lengths), len(self.rows), 100 * accepted, 100 * rejected),
            *(lengths[0], lengths[-1], lengths[len(lengths) // 2]),
            *(counts["truncated"], counts["left out"], len(self.held_out)),
        )
        if rejected and self.label_noise.mode != "positive":
            logger.info(
                "rejected completions need β of at least 1/Z0 = %.3g in expectation; over many"
                " epochs of a fixed file see to objective.guard, or end at trainer.max_kl",
                smallest_beta(0.0, rejected),
            )

    def train_dataloader(self) -> Iterator[RowsBatch]:
        """Yield batches, epoch after epoch."""
        plan = self.settings
        for groups, scale in encoding.batches(
            self.rows, plan.batch_size, plan.tokens, self.seed, self.state
        ):
            yield self.pack(distributed.local_slice(groups), scale)

    def pack(self, groups: list[Encoded], scale: float = 1.0) -> RowsBatch:
        """Lay groups side by side, as the model can take them."""
        return encoding.pack(groups, self.tokenizer.pad_token_id, self.share, scale)

    def feedback(self, batch: RowsBatch) -> Feedback:
        """Return the labels that the learner may see, and how policy and reference compare."""
        shape = batch.accept.shape
        found, tokens = self.compare(batch)
        return Feedback(
            logp=found.logp.view(shape),
            kl=batch.scale * found.kl.view(shape).mean(1),
            accept=batch.accept,
            reject=batch.reject,
            reference_logp=found.reference_logp.view(shape),
            tokens=tokens,
            score=batch.accept - batch.reject,
        )

    def compare(
        self, batch: RowsBatch, divergence: str | None = None
    ) -> tuple[Statistics, TokenFeedback]:
        """Run both models on a batch; return sums over each sequence's completion, [B·K]."""
        found: tuple[Statistics, TokenFeedback] = self.networks(
            *(compare, self.pair, batch.tokens, batch.accept.numel()),
            divergence=divergence or self.divergence,
            entropy=divergence is not None,
        )
        return found

    def diagnostics(self) -> dict[str, float]:
        """Return which epoch it is."""
        return {"epoch": float(self.state["epoch"])}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Measure on held-out rows what became likelier; all `change_…` falling is displacement.

        The signed change is the mean over labelled completions of the change of log π per token,
        counted negatively for rejected ones: 0 at the start. It is the score, except for the
        model and rows that are made here: there the accuracy of new samples is.
        """
        size = self.settings.batch_size
        ordered = sorted(self.held_out, key=lambda group: -len(group.sequences[0].ids))
        chosen = (ordered[i : i + size] for i in range(0, len(ordered), size))
        columns = zip(*map(self.measure, chosen), strict=True)
        statistics = Statistics(*(torch.cat(column) for column in zip(*next(columns), strict=True)))
        length, sign = (torch.cat(column) for column in columns)
        change = (statistics.logp - statistics.reference_logp) / length
        found = {
            "score": average(sign * change, sign != 0),
            "signed_change": average(sign * change, sign != 0),
            "kl": statistics.kl.mean().item(),
            "entropy": (statistics.entropy.sum() / length.sum()).item(),
        }
        for name, value in (("accepted", 1), ("rejected", -1), ("neither", 0)):
            if (where := sign == value).any():
                found[f"change_{name}"] = average(change, where)
                per_token = statistics.logp[where].sum() / length[where].sum()
                found[f"perplexity_{name}"] = (-per_token).exp().item()
        if self.builtin is not None:
            accuracy = self.builtin.accuracy
            found["score"] = self.networks(accuracy, inner(self.policy), self.tokenizer)
        return found

    def measure(self, groups: list[Encoded]) -> tuple[Statistics, Tensor, Tensor]:
        """Return statistics, number of tokens, and sign of the label of each row, [B·K]."""
        batch = self.pack(groups)
        batch = move_data_to_device(batch, next(self.policy.parameters()).device)
        length = torch.bincount(batch.tokens.owner, minlength=batch.accept.numel())
        sign = (batch.accept.sign() - batch.reject.sign()).flatten()
        return self.compare(batch, "forward")[0], length, sign

    def save(self, folder: Path) -> None:
        """Write model (or adapter), tokenizer and model card."""
        save_pair(self.pair, folder, self.settings.lora.merge)

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the rows."""
        return dict(self.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a place."""
        self.state.update(state)


def average(values: Tensor, where: Tensor) -> float:
    """Return the mean over the chosen values, 0 where there are none."""
    return values[where].mean().item() if where.any() else 0.0
