"""What evaluations tell beside scores: pairs, pass@k, and the log-probabilities of both labels."""

import itertools
import random
from fractions import Fraction
from math import comb
from pathlib import Path

import pytest
import torch

from suite.domains.language.diagnostics import (
    is_pass_or_fail,
    pair_metrics,
    pass_metrics,
    share_passing,
)
from suite.domains.language.online import LanguageModel
from suite.domains.language.tasks.arithmetic import Arithmetic
from suite.testing.shared import build
from tests.conftest import Tiny
from tests.domains.language.models import config_of, domain_of
from tests.domains.language.rows import write_rows


@pytest.mark.parametrize("n", range(1, 9))
def test_pass_at_k_is_the_share_of_all_choices_of_k_samples_with_a_right_one(n: int) -> None:
    draw = random.Random(n)
    rows = [[draw.randint(0, 1) for _ in range(n)] for _ in range(7)] + [[0] * n, [1] * n]
    found = pass_metrics(torch.tensor(rows).float())
    assert list(found) == [f"pass_at_{k}" for k in (1, 2, 4, 8) if k <= n]
    for k in range(1, n + 1):
        passing = sum(any(chosen) for row in rows for chosen in itertools.combinations(row, k))
        expected = Fraction(passing, comb(n, k) * len(rows))
        counts = [sum(sum(row) == c for row in rows) for c in range(n + 1)]
        assert share_passing(counts, n, k) == float(expected)
        if f"pass_at_{k}" in found:
            assert found[f"pass_at_{k}"] == float(expected)


@pytest.mark.parametrize("seed", range(5))
def test_pass_at_k_does_not_depend_on_any_order_and_grows_with_k(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    score = (torch.rand(11, 64, generator=generator) < 0.05).double()
    found = pass_metrics(score)
    assert list(found) == [f"pass_at_{2**i}" for i in range(7)]
    values = list(found.values())
    assert values == sorted(values)
    assert values[0] == pytest.approx(score.mean().item(), abs=1e-12)
    assert values[-1] == pytest.approx(score.any(1).double().mean().item(), abs=1e-12)
    shuffled = score[torch.randperm(11, generator=generator)]
    assert pass_metrics(shuffled[:, torch.randperm(64, generator=generator)]) == found
    halves = pass_metrics(score[:3]), pass_metrics(score[3:])
    for name, whole in found.items():
        assert whole == pytest.approx((3 * halves[0][name] + 8 * halves[1][name]) / 11, abs=1e-12)


def test_only_zeros_and_ones_are_a_verifiers_scores() -> None:
    assert is_pass_or_fail(torch.tensor([[0.0, 1.0]]))
    for other in (0.5, -1.0, 2.0, float("nan")):
        assert not is_pass_or_fail(torch.tensor([[0.0, 1.0], [1.0, other]]))


@pytest.mark.parametrize("seed", range(10))
def test_margins_are_of_all_pairs_within_a_context_in_any_order(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randint(1, 40)
    items = [(draw.gauss(0, 1), draw.choice([-1, 0, 1]), draw.choice("abc")) for _ in range(count)]
    margins = [
        up - down
        for (up, a, one), (down, b, other) in itertools.permutations(items, 2)
        if a > 0 > b and one == other
    ]
    for _ in range(2):
        change, sign, contexts = zip(*items, strict=True)
        found = pair_metrics(torch.tensor(change).double(), torch.tensor(sign), contexts)
        assert bool(found) == bool(margins)
        if margins:
            mean, share = sum(margins) / len(margins), sum(m > 0 for m in margins) / len(margins)
            assert found["pair_margin"] == pytest.approx(mean, abs=1e-6)
            assert found["pair_accuracy"] == pytest.approx(share)
        draw.shuffle(items)


def test_a_verifiers_task_has_pass_at_k_of_as_many_samples_as_asked_and_a_graded_one_has_none(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("lm", "domain.eval_samples=5")
    assert tiny("lm").run_name == tiny("lm", "domain.eval_samples=4").run_name != config.run_name
    domain = build(config)
    assert isinstance(domain, LanguageModel)
    found = domain.evaluate()
    assert [name for name in found if name.startswith("pass")] == [
        f"pass_at_{k}" for k in (1, 2, 4)
    ]
    assert found["pass_at_1"] == pytest.approx(found["score"])
    assert found["pair_margin"] == found["pair_accuracy"] == 0, "nothing has changed"
    assert 0 < found["top_mass"] <= 1
    with torch.no_grad():
        for parameter in domain.policy.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    assert domain.evaluate()["pair_margin"] != 0
    monkeypatch.setattr(Arithmetic, "score", lambda self, prompt, text: len(text) / 4)
    graded = build(config).evaluate()
    assert not [name for name in graded if name.startswith("pass")]


def test_rows_tell_pairs_of_one_prompt_however_the_rows_are_written(
    models: Path, tmp_path: Path
) -> None:
    completions = {"good": True, "fine": True, "bad one": False}
    grouped = [
        {"prompt": f"is {i}?", "completions": list(completions), "scores": [1.0, 0.8, 0.1]}
        for i in "abc"
    ]
    apart = [
        {"prompt": f"is {i}?", "completion": text, "label": label}
        for text, label in completions.items()
        for i in "abc"
    ]
    extra = [{"prompt": "is d?", "completion": "good", "label": True}]
    found = []
    for name, rows in {"grouped": grouped, "apart": apart, "ragged": [*grouped, *extra]}.items():
        path = write_rows(tmp_path / f"{name}.jsonl", rows)
        domain = domain_of(config_of(path, models / "llama", "domain.data.held_out=0"), tmp_path)
        start = domain.evaluate()
        assert start["pair_margin"] == start["pair_accuracy"] == 0
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in domain.policy.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        found.append(domain.evaluate())
    together, separate, ragged = found
    assert together == pytest.approx(separate, rel=1e-4, abs=1e-5)
    assert together["pair_margin"] == pytest.approx(ragged["pair_margin"], rel=1e-4)
    gap = together["logp_accepted"] - together["logp_rejected"]
    before = start["logp_accepted"] - start["logp_rejected"]
    assert gap != pytest.approx(before, abs=1e-3), "log π is that of the policy"


def test_without_both_labels_on_one_prompt_there_are_no_pairs(models: Path, tmp_path: Path) -> None:
    kinds = {"is a?": 1, "is b?": 1, "is c?": 0}
    rows = [{"prompt": p, "completion": " yes", "label": label} for p, label in kinds.items()]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    config = config_of(path, models / "llama", "feedback=positive", "domain.data.held_out=0")
    found = domain_of(config, tmp_path).evaluate()
    assert not [name for name in found if name.startswith("pair")]
    assert {name for name in found if name.startswith("logp")} == {"logp_accepted", "logp_neither"}
