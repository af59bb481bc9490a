"""The rows domain: a language model learns from feedback that is there already.

Shapes: B groups, K completions each, T completion tokens of the batch.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from suite import ranks
from suite.domains.lm.head import token_statistics
from suite.domains.rows import tokens as encoding
from suite.domains.rows.builtin import made_here
from suite.domains.rows.config import RowsConfig
from suite.domains.rows.model import as_reference, completion_states, head_of, inner, load_pair
from suite.domains.rows.schema import load_rows
from suite.domains.rows.tokens import Encoded, RowsBatch
from suite.feedback import Feedback, Labels, Shares
from suite.keys import ConfigError
from suite.objectives.pmpo import smallest_beta

logger = logging.getLogger(__name__)


class Compared(NamedTuple):
    """Sums over the completion tokens of each sequence, [B·K] in nats."""

    logp: Tensor
    kl: Tensor
    reference_logp: Tensor


class Rows:
    """Batches of a file's rows, in an order that the seed fixes; nothing is sampled."""

    def __init__(
        self, settings: RowsConfig, *, feedback: str, divergence: str, seed: int, cache: Path
    ) -> None:
        self.settings = settings
        self.feedback_mode = feedback
        self.divergence = divergence
        self.seed = seed
        self.dimensions = None
        name, data = settings.model, settings.data
        self.made = made_here(settings.builtin, cache) if data.path is None else None
        if self.made is not None:
            name, data = name or str(self.made.model), self.made.data(data)
        assert name is not None  # the configuration was checked
        groups, bad = load_rows(data)
        self.pair = load_pair(name, settings)
        self.policy, self.reference, self.tokenizer = self.pair
        encoded, counts = encoding.encode(
            groups, self.tokenizer, settings.max_length, settings.data.skip_bad
        )
        counts["left out"] += len(bad)
        self.rows, self.held_out = self.split(encoding.flattened(encoded))
        self.shares = self.label_shares()
        self.tell(counts)
        self.state = {"epoch": 0, "position": 0}

    def split(self, groups: list[Encoded]) -> tuple[list[Encoded], list[Encoded]]:
        """Keep a share of the groups for evaluation; the same ones for every seed."""
        generator = torch.Generator().manual_seed(0)
        shuffled = [groups[i] for i in torch.randperm(len(groups), generator=generator).tolist()]
        count = round(self.settings.data.held_out * len(groups))
        held_out, rows = shuffled[:count], shuffled[count:]
        if len(rows) < self.settings.batch_size:
            raise ConfigError(
                f"domain.batch_size={self.settings.batch_size} needs as many groups of rows, found"
                f" {len(rows)}"
            )
        return rows, (held_out or rows)[: self.settings.eval_rows]

    def label_shares(self) -> Shares:
        """Return the weighted shares of accepted and rejected completions; raises ConfigError."""
        total = sum(len(group.labels) for group in self.rows)
        accepted = sum(g.weight * sum(x > 0 for x in g.labels) for g in self.rows) / total
        rejected = sum(g.weight * sum(x < 0 for x in g.labels) for g in self.rows) / total
        wanted = {"positive": accepted, "negative": rejected, "mixed": accepted + rejected}
        if not wanted[self.feedback_mode]:
            what = {"positive": "accepted", "negative": "rejected", "mixed": "labelled"}
            raise ConfigError(
                f"feedback={self.feedback_mode} needs {what[self.feedback_mode]} completions,"
                f" and none of the {total} is"
            )
        return Shares(accepted, rejected)

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
        if rejected and self.feedback_mode != "positive":
            logger.info(
                "rejected completions alone need β of at least 1/Z0 = %.3g; over many epochs of a"
                " fixed file that may not suffice: watch eval/kl",
                smallest_beta(0.0, rejected),
            )

    def train_dataloader(self) -> Iterator[RowsBatch]:
        """Yield batches, epoch after epoch."""
        size, pad = self.settings.batch_size, self.tokenizer.pad_token_id
        for groups in encoding.batches(self.rows, size, self.seed, pad, self.state):
            yield encoding.collate(ranks.part(groups), pad)

    def feedback(self, batch: RowsBatch) -> Feedback:
        """Return the labels that the learner may see, and how policy and reference compare."""
        compared = self.compare(batch)
        shape = batch.accept.shape
        labels = Labels(batch.accept, batch.reject).visible(self.feedback_mode)
        return Feedback(
            logp=compared.logp.view(shape),
            kl=compared.kl.view(shape).mean(1),
            accept=labels.accept,
            reject=labels.reject,
            reference_logp=compared.reference_logp.view(shape),
            score=batch.accept - batch.reject,
        )

    def compare(self, batch: RowsBatch) -> Compared:
        """Run both models on a batch."""
        tokens = batch.tokens
        with as_reference(self.pair) as model:
            theirs, their_head = completion_states(model, tokens), head_of(model)
        model = inner(self.policy)
        ours, head = completion_states(model, tokens), head_of(model)
        targets = tokens.input_ids[:, 1:][tokens.completion_mask[:, 1:]]
        logp, kl = token_statistics(
            ours, head, theirs, their_head, targets, divergence=self.divergence
        )
        with torch.no_grad():
            reference_logp, _ = token_statistics(theirs, their_head, theirs, their_head, targets)
        row = tokens.completion_mask[:, 1:].nonzero()[:, 0]
        empty = logp.new_zeros(len(tokens.input_ids))
        return Compared(*(empty.index_add(0, row, part) for part in (logp, kl, reference_logp)))

    def auxiliary_losses(self, batch: RowsBatch) -> dict[str, Tensor]:
        """Return nothing: the policy is all there is."""
        return {}

    def diagnostics(self) -> dict[str, float]:
        """Return which epoch it is."""
        return {"epoch": float(self.state["epoch"])}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Measure on held-out rows what became likelier; all `change_…` falling is displacement.

        The score is the mean over labelled completions of the change of log π per token, counted
        negatively for rejected ones: 0 at the start.
        """
        size = self.settings.batch_size
        chosen = (self.held_out[i : i + size] for i in range(0, len(self.held_out), size))
        change, kl, sign = (
            torch.cat(column) for column in zip(*map(self.measure, chosen), strict=True)
        )
        found = {"score": average(sign * change, sign != 0), "kl": kl.mean().item()}
        for name, value in (("accepted", 1), ("rejected", -1), ("neither", 0)):
            if (sign == value).any():
                found[f"change_{name}"] = average(change, sign == value)
        if self.made is not None:
            found["accuracy"] = self.made.accuracy(inner(self.policy), self.tokenizer)
        return found

    def measure(self, groups: list[Encoded]) -> tuple[Tensor, Tensor, Tensor]:
        """Return change of log π per token, KL, and sign of the label of each row, [B·K]."""
        batch = encoding.collate(groups, self.tokenizer.pad_token_id)
        batch = move_data_to_device(batch, next(self.policy.parameters()).device)
        compared, length = self.compare(batch), batch.tokens.completion_mask.sum(1)
        sign = (batch.accept.sign() - batch.reject.sign()).flatten()
        return (compared.logp - compared.reference_logp) / length, compared.kl, sign

    def save(self, folder: Path) -> None:
        """Write model (or adapter) and tokenizer as transformers and peft load them."""
        self.policy.save_pretrained(folder)  # type: ignore[operator]
        self.tokenizer.save_pretrained(folder)

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the rows."""
        return dict(self.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a place."""
        self.state.update(state)


def average(values: Tensor, where: Tensor) -> float:
    """Return the mean over the chosen values, 0 where there are none."""
    return values[where].mean().item() if where.any() else 0.0
