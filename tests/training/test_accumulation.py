"""The gradient of a batch does not depend on micro-batches or ranks."""

from pathlib import Path

import pytest
import torch

from suite.domains.language.batching import Encoded
from suite.domains.language.offline import Rows
from suite.feedback.label_noise import LabelNoise
from suite.objectives.base import build_objective
from suite.system import distributed
from tests.conftest import Tiny, parts_of

SHAPES = {
    "K samples": [],
    "unpaired rows": ["domain.builtin.only_rejected=true"],
    "guarded": ["objective.guard=0.5"],
}


@pytest.fixture
def domain(request: pytest.FixtureRequest, tiny: Tiny, shared_results: Path) -> tuple[Rows, object]:
    config = tiny("rows", "domain.batch_size=8", *request.param)
    torch.manual_seed(0)
    rows = Rows(
        config.domain, parts_of(LabelNoise("mixed"), seed=0, cache=shared_results))  # fmt: skip
    with torch.no_grad():  # away from the reference, where the KL has no gradient
        for parameter in rows.policy.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return rows, build_objective(config.objective, "mixed", None)


def gradient(rows: Rows, objective: object, parts: list[list[Encoded]]) -> torch.Tensor:
    """Return the mean over micro-batches, as training accumulates it."""
    rows.policy.zero_grad()
    for part in parts:
        loss = objective(rows.feedback(rows.pack(part)), rows.shares).loss / len(parts)
        loss.backward()
    return torch.cat([p.grad.flatten() for p in rows.policy.parameters()])


@pytest.mark.parametrize("domain", SHAPES.values(), ids=SHAPES, indirect=True)
def test_micro_batches_and_ranks_give_the_gradient_of_the_whole_batch(
    domain: tuple[Rows, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, objective = domain
    groups = rows.rows[:8]
    if len(groups[0].labels) == 1:  # each class missing from some micro-batches
        groups = [g._replace(labels=[1.0 if i % 3 else -1.0]) for i, g in enumerate(groups)]
        rows.shares = rows.shares._replace(accept=0.6, reject=0.4)
    whole = gradient(rows, objective, [groups])
    assert whole.abs().max() > 1e-3
    one_by_one = gradient(rows, objective, [[group] for group in groups])
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(distributed.local_slice(groups))
    by_rank = torch.stack([gradient(rows, objective, [part]) for part in parts]).mean(0)
    for other in (one_by_one, by_rank):
        torch.testing.assert_close(other, whole, rtol=1e-4, atol=1e-6)
