"""Objectives refuse feedback that hides what they learn from, and strengths without an optimum."""

from typing import Any

import pytest

from suite.config.fields import ConfigError
from suite.domains.bandit.online_config import BanditConfig
from suite.feedback.feedback import Shares
from tests.objectives.generated import NAMES, settings_of

SENTENCES = {
    "rejected": "learns from rejected samples only, which feedback=positive hides",
    "pairs": "compares accepted with rejected samples: it needs feedback=mixed",
    "scores": "weighs samples by their scores and sees no labels: it needs feedback=mixed",
    "both": "needs accepted and rejected samples: it needs feedback=mixed",
}


def refused(name: str, feedback: str) -> str | None:
    """Return the sentence that a configuration should be refused with."""
    if name == "pmpo":
        return None
    learns_from = settings_of(name).learns_from
    if learns_from == "either" or feedback == "mixed":
        return None
    if learns_from == "rejected" and feedback == "negative":
        return None
    return SENTENCES[learns_from]


@pytest.mark.parametrize("feedback", ["positive", "negative", "mixed"])
@pytest.mark.parametrize("name", sorted({*NAMES} - {"orpo"}))
def test_an_objective_refuses_the_feedback_that_hides_what_it_learns_from(
    name: str, feedback: str
) -> None:
    settings, sentence = settings_of(name), refused(name, feedback)
    if sentence is None:
        settings.check(feedback, BanditConfig())
        return
    with pytest.raises(ConfigError, match=f"objective.name={name} {sentence}"):
        settings.check(feedback, BanditConfig())


def test_orpo_refuses_densities_and_names_what_takes_them() -> None:
    with pytest.raises(ConfigError, match=r"needs probabilities.*use simpo"):
        settings_of("orpo").check("mixed", BanditConfig())


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("reinforce", {"baseline": "mean"}, "under feedback=positive all are equal"),
        ("reinforce", {"reward": "score"}, "sees no labels: it needs feedback=mixed"),
        ("topr", {"reward": "score"}, "sees no labels: it needs feedback=mixed"),
    ],
)
def test_rewards_that_positive_feedback_makes_equal_or_hides_are_refused(
    name: str, values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        settings_of(name, **values).check("positive", BanditConfig())


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("cdpo", {"epsilon": 0.0}, "needs objective.epsilon above 0"),
        *((name, {}, "needs objective.reward=labels") for name in ("exo_rw", "dpo_rw", "nca")),
        *((name, {}, "needs objective.reward=labels") for name in ("weighted", "rwr", "awr")),
        ("crr", {"reward": "labels"}, "objective.weight=binary has none: use exp or reward"),
        ("pmpo", {"beta": 1.0}, "leave objective.beta at auto, found 1.0"),
    ],
)
def test_calibration_without_a_closed_form_is_refused(
    name: str, values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        settings_of(name, calibrate=0.8, **values).check("mixed", BanditConfig())


@pytest.mark.parametrize(
    ("name", "values", "feedback", "told"),
    [
        ("reinforce", {}, "mixed", "has no anchor"),
        ("reinforce", {}, "negative", "has no anchor"),
        ("reinforce", {}, "positive", None),
        ("reinforce", {"clip": 0.2}, "mixed", None),
        ("robust_dpo", {"epsilon": 0.1}, "mixed", "no lower bound"),
        ("robust_dpo", {"epsilon": 0.0}, "mixed", None),
        ("cdpo", {}, "mixed", None),
    ],
)
def test_a_loss_without_a_lower_bound_says_so(
    name: str, values: dict[str, Any], feedback: str, told: str | None
) -> None:
    warning = settings_of(name, **values).bind(feedback, None).warning(Shares(0.4, 0.6))
    assert (warning is None) == (told is None)
    assert told is None or told in warning
