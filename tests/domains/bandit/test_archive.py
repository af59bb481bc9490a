"""The archive domain: what a fixed set of scored points says about a better one."""

import pytest
import torch

from suite.config.fields import ConfigError
from suite.config.schema import LabelNoiseConfig
from suite.domains.bandit.archive import Archive, ArchiveBatch
from suite.domains.bandit.archive_config import ArchiveConfig
from suite.feedback.feedback import Labels
from suite.feedback.label_noise import LabelNoise
from suite.objectives.pmpo import pmpo
from suite.runs.folder import RunFolder
from suite.train import train
from tests.conftest import Tiny, parts_of


def archive(mode: str = "mixed", labels: LabelNoiseConfig | None = None, **keys: object) -> Archive:
    settings = ArchiveConfig(**{"dimensions": 3, "points": 200, **keys})
    label_noise = LabelNoise(mode, labels or LabelNoiseConfig())
    return Archive(settings, parts_of(label_noise, seed=0, cache=None))


def whole(domain: Archive) -> ArchiveBatch:
    labels = Labels(*(weight[:, None] for weight in domain.labels))
    return ArchiveBatch(domain.points[:, None], domain.scores[:, None], labels)


@pytest.mark.parametrize(
    ("alpha", "beta", "accept", "reject"),
    [(1.0, 0.0, 0.5, 0.5), (0.5, 2.0, 0.5, 0.5), (0.0, 4.0, 0.5, 0.5), (0.5, 3.0, 0.1, 0.4)],
)
def test_the_optimum_is_the_gaussian_of_the_weighted_points(
    alpha: float, beta: float, accept: float, reject: float
) -> None:
    domain = archive(accept=accept, reject=reject)
    order = domain.scores.argsort(descending=True)
    weight = torch.full((200,), beta / 200)
    weight[order[: round(200 * accept)]] += alpha / (200 * accept)
    weight[order[200 - round(200 * reject) :]] -= (1 - alpha) / (200 * reject)
    mean = (weight[:, None] * domain.points).sum(0) / weight.sum()
    variance = (weight[:, None] * (domain.points - mean) ** 2).sum(0) / weight.sum()
    assert (variance > 0).all()
    optimizer = torch.optim.LBFGS(domain.policy.parameters(), max_iter=300, tolerance_grad=1e-9)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        terms = pmpo(domain.feedback(whole(domain)), alpha=alpha, beta=beta, shares=domain.shares)
        terms.loss.backward()
        return terms.loss

    optimizer.step(loss)
    found = domain.policy()
    torch.testing.assert_close(found.mean, mean, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.std, variance.sqrt(), atol=2e-3, rtol=1e-2)


def test_the_policy_starts_as_the_archive_and_its_labels_are_the_best_and_the_worst() -> None:
    domain = archive(accept=0.25, reject=0.5)
    torch.testing.assert_close(domain.policy().mean, domain.points.mean(0))
    accepted, rejected = (weight > 0 for weight in domain.labels)
    assert (accepted.sum().item(), rejected.sum().item()) == (50, 100)
    assert domain.scores[accepted].min() >= domain.scores[~accepted].max()
    assert domain.scores[rejected].max() <= domain.scores[~rejected].min()


def test_labels_that_are_left_out_stay_left_out() -> None:
    domain = archive(labels=LabelNoiseConfig(keep=0.2))
    batches = domain.train_dataloader()
    seen = {}
    for _ in range(50):
        batch = next(batches)
        for point, accept, reject in zip(batch.points, *batch.labels, strict=True):
            label = (accept.item(), reject.item())
            assert seen.setdefault(tuple(point[0].tolist()), label) == label
    assert 0.1 < sum(any(label) for label in seen.values()) / len(seen) < 0.3


def test_nothing_is_tried_while_learning_and_the_proposal_is_better_than_the_average(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    score = Archive.score
    monkeypatch.setattr(Archive, "score", lambda self, x: asked.append(x.shape) or score(self, x))
    config = tiny("archive", "domain.points=256", "trainer.steps=200", "trainer.eval_every=100")
    train(config)
    evaluations = [row for row in RunFolder.of(config).metrics() if "eval/score" in row]
    # The archive once, and the proposal at each evaluation.
    assert asked == [(256, 3), *[(3,)] * len(evaluations)]
    assert evaluations[-1]["eval/score"] > evaluations[0]["eval/score"]
    last = evaluations[-1]
    assert last["eval/above_best"] == last["eval/score"] - last["eval/best_of_archive"]


def test_more_than_all_points_cannot_be_labelled(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match=r"domain.accept \+ domain.reject .* found 0.6 \+ 0.5"):
        tiny("archive", "domain.accept=0.6")


@pytest.mark.parametrize("name", ["archive", "offline"])
def test_what_needs_samples_of_the_reference_is_refused_where_there_are_only_data(
    tiny: Tiny, name: str
) -> None:
    for objective in ("dpo", "mpo"):
        with pytest.raises(ConfigError, match=f"objective.name={objective} compares several"):
            tiny(name, f"objective={{name: {objective}}}")
    with pytest.raises(ConfigError, match="whose anchor is behaviour cloning"):
        tiny(name, "feedback=positive", "objective.divergence=reverse")
    with pytest.raises(ConfigError, match="whose anchor is behaviour cloning"):
        tiny(name, "objective.guard=0.1")
