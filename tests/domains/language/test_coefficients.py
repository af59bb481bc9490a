"""Over an epoch each row's coefficients on log π and on the KL are those of a closed form.

Models are replaced by a table: log π and KL of each completion are parameters, whose gradients are
the coefficients. Files, batches, ranks and labels are generated.
"""

import math
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from suite.config.schema import LabelNoiseConfig
from suite.domains.language import batching
from suite.domains.language.batching import Encoded, RowsBatch
from suite.domains.language.head import Statistics
from suite.domains.language.offline import Rows
from suite.domains.language.offline_config import RowsConfig
from suite.domains.language.packing import Sequence
from suite.feedback.feedback import Shares, TokenFeedback
from suite.feedback.label_noise import LabelNoise
from suite.objectives.base import build_objective
from suite.objectives.config import PMPOConfig
from suite.objectives.pairs_config import DPOConfig
from suite.system import distributed

SEEDS = range(60)
GUARD, TOKEN = 0.3, 0.2  # ε, and π_ref of every token


@dataclass
class Case:
    """A generated file, and how it is trained."""

    rows: list[Encoded]
    batch_size: int
    tokens: int
    ranks: int
    mode: str
    noise: LabelNoiseConfig
    pmpo: PMPOConfig
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def completions(self) -> int:
        return sum(len(row.labels) for row in self.rows)


def made(seed: int) -> Case:
    draw = random.Random(seed)
    ranks = draw.choice([1, 1, 2, 3])
    largest, even, name = draw.choice([1, 2, 4]), draw.random() < 0.5, 0
    rows: list[Encoded] = []
    for _ in range(draw.choice([1, 5, 31, 40, draw.randint(2, 120)])):
        count = largest if even else draw.randint(1, largest)
        length = draw.randint(1, 30)
        sequences = []
        for _ in range(count):
            sequences.append(Sequence([0] * length + [name] * draw.randint(1, 30), length))
            name += 1
        labels = [float(draw.choice([1, -1, -1, 0])) for _ in range(count)]
        scores = [draw.random() for _ in range(count)]
        rows.append(Encoded(sequences, labels, 10 ** draw.uniform(-2, 2), scores=scores))
    mode = draw.choice(["mixed", "mixed", "positive", "negative"])
    rows[0].labels[0] = {"positive": 1.0, "negative": -1.0}.get(mode, rows[0].labels[0] or 1.0)
    few = draw.random() < 0.3
    noise = LabelNoiseConfig(keep=0.6 if few else 1.0, flip=0.1 if few else 0.0)
    pmpo = PMPOConfig(
        margin=1.5,
        beta=draw.choice(["auto", 0.7]),
        guard=draw.choice([None, GUARD]),
    )
    size = ranks * draw.randint(1, 9)
    return Case(rows, size, draw.choice([0, 0, 60, 400]), ranks, mode, noise, pmpo)


def rows_domain(case: Case, rows: list[Encoded]) -> Rows:
    """The part of the domain that follows the reading of files and models."""
    domain = Rows.__new__(Rows)
    domain.settings = RowsConfig(batch_size=case.batch_size, tokens=case.tokens)
    domain.label_noise, domain.divergence, domain.seed = LabelNoise(case.mode, case.noise), "", 5
    domain.tokenizer, domain.prompt_sharing = type("Words", (), {"pad_token_id": 0})(), True
    domain.learn_from(rows)
    return domain


def epoch_coefficients(
    case: Case,
    rows: list[Encoded],
    objective: Any,
    monkeypatch: pytest.MonkeyPatch,
    epoch: int = 0,
) -> tuple[Rows, int, torch.Tensor, torch.Tensor]:
    """Return domain, batches of the first epoch, and each completion's sums over an epoch, [N]."""
    logp = torch.linspace(-2, -1, case.completions).requires_grad_()
    kl = torch.linspace(0, 1, case.completions).requires_grad_()

    def compare(self: Rows, batch: RowsBatch) -> tuple[Statistics, TokenFeedback]:
        targets, owner = batch.tokens.targets, batch.tokens.owner
        length = torch.bincount(owner)[owner]
        empty = torch.zeros(batch.accept.numel())
        each, reference = logp[targets] / length, torch.full(targets.shape, math.log(TOKEN))
        parts = (each, kl[targets] / length, reference)
        sums = Statistics(*(empty.index_add(0, owner, part) for part in parts), {})
        return sums, TokenFeedback(each, reference, owner)

    monkeypatch.setattr(Rows, "compare", compare)
    monkeypatch.setattr(batching, "WINDOW", 2)  # several windows in an epoch
    monkeypatch.setattr(distributed, "world_size", lambda: case.ranks)
    first = 0
    for rank in range(case.ranks):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        domain = rows_domain(case, rows)
        stream = domain.train_dataloader()
        for number in range(10_000):
            batch = next(stream)
            if domain.state["epoch"] > epoch:
                break
            first = number + 1 if domain.state["epoch"] == 0 else first
            if domain.state["epoch"] == epoch:
                loss = objective(domain.feedback(batch), domain.shares).loss / case.ranks
                loss.backward()
    by_logp, by_kl = (x.grad if x.grad is not None else torch.zeros_like(x) for x in (logp, kl))
    return domain, first, by_logp, by_kl


def closed_form(
    case: Case, shares: Shares, labels: list[float], objective: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients of the mean over all completions, by their weights."""
    alpha, beta = objective.alpha_under(shares), objective.beta(shares)
    guard = objective.guard(shares)
    weight = [row.weight for row in case.rows for _ in row.labels]
    by_logp, by_kl = [], []
    for w, label in zip(weight, labels, strict=True):
        measure = w / sum(weight)
        rejected = (1 - alpha) * -label / shares.reject if label < 0 else 0.0
        if guard is not None and rejected:
            rejected = min(rejected, (1 - guard) * beta * TOKEN)
        accepted = alpha * label / max(shares.accept, 1e-3) if label > 0 else 0.0
        by_logp.append(measure * (rejected - accepted))
        by_kl.append(measure * beta)
    return torch.tensor(by_logp), torch.tensor(by_kl)


def true_shares(case: Case) -> Shares:
    weights = [(row.weight, x) for row in case.rows for x in row.labels]
    total = sum(w for w, _ in weights)
    accept, reject = (sum(w for w, x in weights if s * x > 0) / total for s in (1, -1))
    f = case.noise.flip
    return Shares((1 - f) * accept + f * reject, (1 - f) * reject + f * accept)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_rows_sums_over_an_epoch_are_the_closed_form(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = made(seed)
    objective = build_objective(case.pmpo, case.mode, None)
    for epoch in (0, 1):
        domain, count, *sums = epoch_coefficients(case, case.rows, objective, monkeypatch, epoch)
        assert domain.shares == pytest.approx(true_shares(case), abs=1e-9)
        seen = [label for row in domain.rows for label in row.labels]
        expected = closed_form(case, domain.shares, seen, objective)
        for found, mean in zip(sums, expected, strict=True):
            torch.testing.assert_close(found, count * mean, rtol=1e-3, atol=1e-6 * count)


@pytest.mark.parametrize("seed", SEEDS[::3])
@pytest.mark.parametrize("factor", [0.1, 7.0])
def test_the_scale_of_the_weights_changes_nothing(
    seed: int, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = made(seed)
    scaled = [row._replace(weight=factor * row.weight) for row in case.rows]
    objective = build_objective(case.pmpo, case.mode, None)
    one, _, *sums = epoch_coefficients(case, case.rows, objective, monkeypatch)
    other, _, *scaled_sums = epoch_coefficients(case, scaled, objective, monkeypatch)
    assert other.shares == pytest.approx(one.shares)
    assert objective.beta(other.shares) == pytest.approx(objective.beta(one.shares))
    assert objective.guard(other.shares) == objective.guard(one.shares)
    torch.testing.assert_close(scaled_sums, sums, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS[1::3])
def test_the_order_of_the_rows_changes_no_sum(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = made(seed)
    case.noise = LabelNoiseConfig()  # which draws by place
    case.tokens = 0  # or the number of batches depends on which rows meet
    objective = build_objective(case.pmpo, case.mode, None)
    shuffled = random.Random(seed).sample(case.rows, len(case.rows))
    _, _, *sums = epoch_coefficients(case, case.rows, objective, monkeypatch)
    _, _, *others = epoch_coefficients(case, shuffled, objective, monkeypatch)
    torch.testing.assert_close(others, sums, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS[2::3])
def test_dpo_ranks_by_the_scores_and_counts_each_group_by_its_weight(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = (made(number) for number in range(seed, 1000))
    case = next(c for c in cases if max(len(row.labels) for row in c.rows) > 1)
    case.noise, case.mode = LabelNoiseConfig(), "mixed"
    case.rows[0].labels[0] = case.rows[0].labels[0] or 1.0
    domain, count, by_logp, _ = epoch_coefficients(
        case, case.rows, build_objective(DPOConfig(beta=0.5), "mixed", None), monkeypatch
    )
    logp = torch.linspace(-2, -1, case.completions)
    expected = torch.zeros_like(logp)
    total = sum(row.weight * len(row.labels) for row in case.rows) / domain.samples
    for row in case.rows:
        names = [sequence.ids[-1] for sequence in row.sequences]
        assert row.scores is not None
        ranked = [n for _, n in sorted(zip(row.scores, names, strict=True))]
        if len(names) > 1:
            worst, best = ranked[0], ranked[-1]
            lengths = [len(s.ids) - s.prompt for s in row.sequences]
            reference = {n: k * math.log(TOKEN) for n, k in zip(names, lengths, strict=True)}
            reward = {n: logp[n].item() - reference[n] for n in names}
            slope = 0.5 / (1 + math.exp(0.5 * (reward[best] - reward[worst])))
            expected[best] -= count * row.weight / total * slope
            expected[worst] += count * row.weight / total * slope
    torch.testing.assert_close(by_logp, expected, rtol=1e-3, atol=1e-5)
