"""The bandit with arms: its contract, and what is known exactly there."""

import itertools
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from scipy import special, stats

from suite import testing
from suite.config.fields import ConfigError
from suite.config.loading import load
from suite.config.registry import OBJECTIVES
from suite.config.schema import Config
from suite.domains.bandit import arms
from suite.feedback.labelling import label_by_rank
from suite.runs.folder import RunFolder
from suite.system import distributed
from suite.testing.shared import build
from suite.train import train
from tests.conftest import ROOT, SCHEDULE
from tests.domains.bandit.made_arms import HIDDEN, domain_of, move

SMALL = ["domain.policy=categorical", "domain.function=likely_peak", "domain.arms=12"]


@pytest.mark.parametrize(
    "labels", [[], ["domain.samples=1"], ["domain.threshold=null", "domain.samples=5"]]
)
def test_it_keeps_the_contract(labels: list[str], tmp_path: Path) -> None:
    testing.check_domain("bandit", *SMALL, *labels, folder=tmp_path)


def test_every_objective_keeps_the_contract_but_for_those_of_gaussians(tmp_path: Path) -> None:
    where = ["domain.name=bandit", *SMALL]
    for objective in OBJECTIVES:
        if objective == "mpo":
            with pytest.raises(ConfigError, match="needs a Gaussian policy"):
                testing.check_objective(objective, folder=tmp_path, domain=where)
        else:
            testing.check_objective(objective, folder=tmp_path, domain=where)


@pytest.mark.parametrize("number", [2, 7, 100, 1001])
def test_the_first_policy_is_a_squashed_cauchy_in_bins(number: int) -> None:
    probabilities = torch.tensor(arms.start(number))
    edges = torch.linspace(-1, 1, number + 1, dtype=torch.float64).atanh()
    expected = torch.tensor(stats.cauchy.cdf(edges, -0.7, 0.4)).diff()
    torch.testing.assert_close(probabilities.double(), expected, rtol=1e-4, atol=1e-7)
    assert (probabilities > 0).all()
    domain = domain_of(arms=number, threshold=0.01)
    torch.testing.assert_close(domain.policy.probabilities(), expected, rtol=1e-4, atol=1e-6)


def test_the_peaks_scale_with_the_number_of_arms() -> None:
    for function, peak in (("hidden_peak", 0.7), ("likely_peak", 0.2)):
        for number in (10, 100, 1000):
            values = arms.rewards(function, number)
            best = round(peak * number)
            assert values[best] == max(values) == pytest.approx(1)
            assert values[best + number // 10] == pytest.approx(math.exp(-1))


def test_the_default_threshold_accepts_some_samples_of_either_problem_and_not_most() -> None:
    accepted = {name: domain_of(function=name).shares.accept for name in arms.PEAKS}
    assert 0.03 < accepted["hidden_peak"] < 0.05 < 0.3 < accepted["likely_peak"] < 0.45


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("seed", [0, 1])
def test_both_kls_and_their_gradients_are_exact_down_to_probabilities_of_zero(
    seed: int, scale: float, dtype: torch.dtype
) -> None:
    domain = domain_of(arms=11, samples=3, contexts=5, threshold=0.3)
    move(domain, seed, scale, dtype)
    close = {"rel": 1e-4, "abs": 1e-5} if dtype == torch.float32 else {"rel": 1e-9, "abs": 1e-12}
    domain.reverse_kl = True
    batch = next(iter(domain.train_dataloader()))
    q, p = (
        net.logits.detach().double().log_softmax(0) for net in (domain.policy, domain.reference)
    )
    forward, reverse = ((a.exp() * (a - b)).sum().item() for a, b in ((p, q), (q, p)))
    for divergence, expected in (("forward", forward), ("reverse", reverse)):
        domain.divergence = divergence
        feedback = domain.feedback(batch)
        assert feedback.kl.tolist() == pytest.approx([expected] * 5, **close)
        assert feedback.reverse_kl is not None
        assert feedback.reverse_kl.tolist() == pytest.approx([reverse] * 5, **close)
        assert not feedback.reverse_kl.requires_grad
        (gradient,) = torch.autograd.grad(feedback.kl.mean(), domain.policy.logits)
        slopes = {"forward": q.exp() - p.exp(), "reverse": q.exp() * (q - p - reverse)}
        torch.testing.assert_close(
            gradient.double(), slopes[divergence], rtol=close["rel"], atol=scale * close["abs"]
        )
    if scale < 1e3:  # scipy takes probabilities, whose logarithms are lost at 0
        terms = special.rel_entr(p.exp().numpy(), q.exp().numpy())
        assert terms.sum() == pytest.approx(forward, rel=1e-7)


@pytest.mark.parametrize(("samples", "top", "bottom"), [(2, 1, 1), (3, 1, 2), (4, 2, 1), (4, 3, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_shares_by_rank_are_those_of_all_groups(
    seed: int, samples: int, top: int, bottom: int
) -> None:
    domain = domain_of(arms=5, samples=samples, top=top, bottom=bottom, threshold=None)
    move(domain, seed)
    assert domain.rewards[0] == domain.rewards[2], "some arms are equally good"
    groups = torch.tensor(list(itertools.product(range(5), repeat=samples)))
    probability = domain.reference.probabilities()[groups].prod(1)
    labels = label_by_rank(domain.rewards.double()[groups], top, bottom)
    expected = [(probability * label.mean(1)).sum().item() for label in labels]
    assert list(domain.shares) == pytest.approx(expected, abs=1e-12)


def test_shares_by_threshold_follow_the_reference_and_swapped_labels() -> None:
    domain = domain_of(arms=23, threshold=0.4, flip=0.2)
    for seed in range(3):
        move(domain, seed, scale=3.0)
        good = domain.reference.probabilities()[domain.rewards >= 0.4].sum().item()
        assert domain.shares.accept == pytest.approx(0.8 * good + 0.2 * (1 - good))
        assert sum(domain.shares) == pytest.approx(1)


@pytest.mark.parametrize("threshold", [0.3, None])
def test_samples_come_from_the_reference_with_the_shares_of_their_labels(
    threshold: float | None,
) -> None:
    domain = domain_of(arms=10, contexts=20_000, threshold=threshold)
    move(domain, seed=4)
    batch = next(iter(domain.train_dataloader()))
    counts = batch.samples.flatten().bincount(minlength=10)
    assert stats.chisquare(counts, 80_000 * domain.reference.probabilities()).pvalue > 1e-3
    assert list(batch.labels.shares()) == pytest.approx(list(domain.shares), abs=0.01)


def test_with_a_threshold_groups_of_any_size_are_the_same_feedback() -> None:
    batches = []
    for contexts, samples in ((30, 1), (10, 3), (2, 15)):
        domain = domain_of(arms=12, contexts=contexts, samples=samples, threshold=0.3)
        feedback = domain.feedback(next(iter(domain.train_dataloader())))
        batches.append((feedback.logp.mean(), feedback.accept.flatten(), domain.shares))
    for logp, accept, shares in batches[1:]:
        torch.testing.assert_close(logp, batches[0][0])
        assert torch.equal(accept, batches[0][1])
        assert shares == batches[0][2]


def test_ranks_draw_the_batch_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = next(iter(domain_of(arms=12, contexts=6, threshold=0.3).train_dataloader()))
    parts = []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        domain = domain_of(arms=12, contexts=6, threshold=0.3)
        parts.append(next(iter(domain.train_dataloader())))
    assert torch.equal(torch.cat([part.samples for part in parts]), whole.samples)
    assert torch.equal(torch.cat([part.labels.accept for part in parts]), whole.labels.accept)


def test_an_evaluation_is_exact_and_the_saved_policy_is_the_evaluated_one(tmp_path: Path) -> None:
    domain = domain_of(arms=30)
    move(domain, seed=2, scale=4.0)
    domain.save(tmp_path)
    saved = json.loads((tmp_path / "policy.json").read_text())
    probabilities, rewards = torch.tensor(saved["probabilities"]), torch.tensor(saved["rewards"])
    assert probabilities.sum().item() == pytest.approx(1)
    start = torch.tensor(arms.start(30))
    assert domain.evaluate() == pytest.approx(
        {
            "score": (probabilities * rewards).sum().item(),
            "accepted_mass": probabilities[rewards >= 0.5].sum().item(),
            "kl": stats.entropy(start, probabilities),
            "entropy": stats.entropy(probabilities),
            "effective_arms": sum(p > 1e-3 for p in saved["probabilities"]),
        },
        rel=1e-4,
    )


def test_a_resumed_run_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    def config(name: str) -> Config:
        noise = ["labels.flip=0.1", "labels.keep=0.7"]
        return load(HIDDEN, [*SCHEDULE, *noise, f"results_dir={tmp_path / name}"])

    train(config("whole"))
    whole = RunFolder.of(config("whole"))
    torn = RunFolder.of(config("torn"))
    shutil.copytree(whole.path, torn.path)
    (torn.path / "summary.json").unlink()
    (torn.checkpoints / "previous.ckpt").rename(torn.checkpoints / "last.ckpt")
    train(config("torn"))
    assert torn.metrics() == whole.metrics()
    states = [torch.load(run.checkpoints / "last.ckpt")["state_dict"] for run in (whole, torn)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("domain.function=sphere", "must be one of hidden_peak, likely_peak with .*=categorical"),
        ("domain.dimensions=3", "domain.dimensions has no effect with domain.policy=categorical"),
        ("domain.initial_std=0.1", "domain.initial_std has no effect .*leave it at 0.2, found 0.1"),
        ("domain.top=1", r"domain.top has no effect with domain.threshold=0\.5"),
        ("domain.bottom=1", r"domain.bottom has no effect with domain.threshold=0\.5"),
        ("domain.threshold=1.5", "domain.threshold must be at most 1, found 1.5"),
        ("domain.arms=5 domain.threshold=0.9", "domain.threshold must be at most 0.368, the best"),
        ("domain.threshold=null domain.samples=1", "domain.samples must be at least 2, found 1"),
        ("domain.threshold=null domain.samples=3", r"domain.top \+ domain.bottom must be at most"),
        ("domain.samples=1 objective.name=dpo", "domain.samples must be at least 2 with"),
        ("objective.name=mpo", "objective.name=mpo .* needs a Gaussian policy"),
        ("objective.covariance_weight=2", "objective.covariance_weight=2 needs a Gaussian policy"),
        ("objective.guard=0.1", "objective.guard=0.1 needs a language model"),
        ("domain.policy=gaussian", "must be one of sphere, rosenbrock, schwefel with .*=gaussian"),
        (
            "domain.policy=gaussian domain.function=sphere domain.arms=5",
            "domain.arms has no effect with domain.policy=gaussian: leave it at 100, found 5",
        ),
        (
            "domain.policy=gaussian domain.function=sphere domain.threshold=null",
            "domain.threshold has no effect with domain.policy=gaussian",
        ),
        (
            "domain.policy=gaussian domain.function=sphere domain.samples=1",
            "domain.samples must be at least 2, found 1",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(HIDDEN, overrides.split())


def test_equal_settings_of_earlier_gaussian_runs_keep_their_name() -> None:
    sphere = load(ROOT / "configs/bandit/sphere.yaml")
    assert (sphere.domain.task, sphere.domain.has_gaussian_policy()) == ("sphere-10d", True)
    assert load(HIDDEN).domain.task == "hidden_peak-100-arms"
    assert build(load(HIDDEN)).dimensions is None
