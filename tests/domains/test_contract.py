"""Every domain keeps the public contract; a new domain is tested by adding it to conftest.TINY."""

import copy
import itertools
import math
from pathlib import Path

import pytest
import torch

from suite import testing
from suite.config.fields import ConfigError
from suite.config.registry import DOMAINS, OBJECTIVES, choose
from suite.domains.language.tasks.arithmetic import Arithmetic
from suite.domains.language.tasks.letters import Letters
from suite.testing import domain, shared
from suite.train import train
from tests.conftest import TINY, Tiny


def test_every_domain_is_under_contract() -> None:
    assert set(TINY) == set(DOMAINS)


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize("mode", domain.MODES)
def test_feedback_has_the_promised_shapes_signs_and_gradients(
    tiny: Tiny, name: str, mode: str
) -> None:
    domain.check_feedback(tiny(name, f"feedback={mode}"))


def refusal(name: str, objective: str) -> str | None:
    """Return why a domain cannot have an objective, None where it can."""
    settings, domain_settings = choose("objective", objective).settings, choose("domain", name)
    if domain_settings.settings.recorded and settings.compares_samples:
        return "compares several samples of a context"
    if domain_settings.settings.recorded and settings.needs_divergence:
        return "needs the divergence from the reference"
    gaussian = domain_settings.settings().has_gaussian_policy()
    if objective == "mpo" and not gaussian:
        return ".* needs a Gaussian policy"
    return "needs probabilities" if objective == "orpo" and gaussian else None


@pytest.mark.parametrize("name", DOMAINS)
def test_three_steps_of_every_objective_move_the_policy_and_not_the_reference(
    tiny: Tiny, name: str
) -> None:
    built = shared.build(tiny(name, "seed=1"))
    start = copy.deepcopy((built.policy.state_dict(), built.state_dict()))
    trained = 0
    for objective in OBJECTIVES:
        reason = refusal(name, objective)
        if reason is not None:
            with pytest.raises(ConfigError, match=f"objective.name={objective} {reason}"):
                tiny(name, f"objective={{name: {objective}}}")
            continue
        config = tiny(name, f"objective={{name: {objective}}}", "seed=1")
        built.policy.load_state_dict(start[0])
        built.load_state_dict(copy.deepcopy(start[1]))
        shared.check_training_moves_the_policy_alone(config, built)
        trained += 1
    assert trained >= 12


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_by_its_name_alone(tiny: Tiny, objective: str) -> None:
    name = "rows" if objective == "orpo" else "bandit"
    config = tiny(
        name, f"objective={{name: {objective}}}", "trainer.steps=3", "trainer.eval_every=3"
    )
    assert math.isfinite(train(config)["score"])


@pytest.mark.parametrize("name", DOMAINS)
def test_evaluation_has_a_score_repeats_itself_and_leaves_training_alone(
    tiny: Tiny, name: str
) -> None:
    domain.check_evaluation(tiny(name))


@pytest.mark.parametrize("name", DOMAINS)
def test_equal_seeds_give_equal_batches_and_other_seeds_others(tiny: Tiny, name: str) -> None:
    domain.check_seeds(tiny(name, "seed=1"), tiny(name, "seed=2"))


@pytest.mark.parametrize("name", DOMAINS)
def test_state_continues_the_stream_of_batches(tiny: Tiny, name: str) -> None:
    domain.check_state(tiny(name))


@pytest.mark.parametrize("name", DOMAINS)
def test_the_policy_is_saved(tiny: Tiny, name: str, tmp_path: Path) -> None:
    domain.check_saving(tiny(name), tmp_path)


@pytest.mark.parametrize("name", DOMAINS)
def test_settings_come_back_from_the_runs_folder(tiny: Tiny, name: str, tmp_path: Path) -> None:
    shared.check_settings(tiny(name), tmp_path)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_keeps_the_contract(objective: str, tmp_path: Path) -> None:
    arms = ["domain.policy=categorical", "domain.function=likely_peak"]
    domain = ["domain.name=bandit", *(arms if objective == "orpo" else [])]
    testing.check_objective(objective, folder=tmp_path, domain=domain)


@pytest.mark.parametrize("name", DOMAINS)
def test_the_reverse_divergence_is_another_one(tiny: Tiny, name: str) -> None:
    if choose("domain", name).settings.recorded:
        with pytest.raises(ConfigError, match=r"objective\.divergence must be forward"):
            tiny(name, "feedback=positive", "objective.divergence=reverse")
        return

    def kl(divergence: str) -> torch.Tensor:
        config = tiny(name, "feedback=positive", f"objective.divergence={divergence}")
        built = shared.build(config)
        with torch.no_grad():
            for i, parameter in enumerate(built.policy.parameters()):
                generator = torch.Generator().manual_seed(i)
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.3 * noise)
        return shared.first_feedback(built).kl

    # Only a family whose members have equal deviations may diverge equally both ways.
    if name in ("bandit", "control", "lm"):
        assert not torch.allclose(kl("forward"), kl("reverse"), rtol=1e-3)
    assert (kl("forward") > 0).all()
    assert (kl("reverse") > 0).all()


def test_a_broken_domain_or_objective_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from suite.domains.bandit.online import Bandit
    from suite.objectives.pmpo import BoundPMPO

    original, count = Bandit.feedback, itertools.count()
    broken = {
        "kl must not be negative": lambda f: f._replace(kl=f.kl - 1),
        "must hide the other label": lambda f: f._replace(reject=1 - f.accept),
        "logp must equal reference_logp": lambda f: f._replace(logp=f.logp + 1),
        r"reverse_kl must be \[B\]": lambda f: f._replace(reverse_kl=f.kl.detach().mean()),
        "reverse_kl must have no gradient": lambda f: f._replace(reverse_kl=f.kl),
        "score must be": lambda f: f._replace(score=None),
        "equal seeds must give equal batches": lambda f: f._replace(score=f.score + next(count)),
    }
    for sentence, change in broken.items():
        with monkeypatch.context() as patch:
            patch.setattr(Bandit, "feedback", lambda self, b, c=change: c(original(self, b)))
            with pytest.raises(testing.BrokenContract, match=sentence):
                testing.check_domain("bandit", folder=tmp_path)
    call = BoundPMPO.__call__
    with monkeypatch.context() as patch:
        summed = lambda self, f, s: call(self, f, s)._replace(anchor=f.kl.sum() + len(f.kl))  # noqa: E731
        patch.setattr(BoundPMPO, "__call__", summed)
        with pytest.raises(testing.BrokenContract, match="mean of the losses of its halves"):
            testing.check_objective("pmpo", folder=tmp_path)


@pytest.mark.parametrize("name", ["arithmetic", "letters"])
def test_every_built_in_task_keeps_the_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "arithmetic":  # the suite gives it the number of digits
        monkeypatch.setattr(Arithmetic.__init__, "__defaults__", (2,))
    testing.check_task(name)


def test_a_broken_task_or_judge_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {
        "alphabet": ("alphabet", "abc"),
        "max_new_tokens": ("max_new_tokens", 1),
        "up to 1": ("score", lambda self, prompt, completion: 2.0),
        "must never occur": ("prompts", lambda self, n, g, *, held_out: ["ab>"] * n),
        "as many as asked": ("prompts", lambda self, n, g, *, held_out: []),
    }
    for sentence, (attribute, value) in broken.items():
        with monkeypatch.context() as patch:
            patch.setattr(Letters, attribute, value)
            with pytest.raises(testing.BrokenContract, match=sentence):
                testing.check_task("letters")
    with pytest.raises(testing.BrokenContract, match="order of the completions"):
        testing.check_judge("tests.domains.test_contract:by_place", ["a", "b"], ["x", "y"])
    with pytest.raises(testing.BrokenContract, match="a score per completion"):
        testing.check_judge("tests.domains.test_contract:only_one", ["a", "b"], ["x", "y"])


def by_place(prompts: list[str], completions: list[str]) -> list[float]:
    return [float(i) for i in range(len(completions))]


def only_one(prompts: list[str], completions: list[str]) -> list[float]:
    return [1.0]
