"""`objective.calibrate: s`: the optimum of every objective with this key has accepted mass s."""

from typing import Any

import pytest
import torch
from torch import Tensor

from suite.config.fields import ConfigError
from suite.config.registry import OBJECTIVES
from suite.feedback.feedback import Feedback, Shares
from tests.objectives.generated import settings_of
from tests.objectives.tabular import HARD, minimum, numbers, shares

# Names, and settings that change the strength for a mass.
CALIBRATED: list[tuple[str, dict[str, Any]]] = [
    *(("cdpo", {"pairs": "labels", "epsilon": x}) for x in (0.05, 0.3)),
    *(("exo_pref", {"pairs": "labels", "epsilon": x}) for x in (0.001, 0.2)),
    ("ipo", {"pairs": "labels"}),
    *(("pmpo", {"alpha": x}) for x in (0.0, 0.3, 0.5)),
    ("d2o", {"alpha": 0.4}),
    *(
        (name, {"reward": "labels", "temperature": x})
        for name in ("exo_rw", "dpo_rw", "nca")
        for x in (0.3, 1.0)
    ),
    *((name, {"reward": "labels", "largest": x}) for name in ("rwr", "awr") for x in (3.0, 20.0)),
    *(("weighted", {"reward": "labels", "weight": x}) for x in ("exp", "reward")),
]
# Scores are of samples, which come from π_ref: with all outcomes once it is uniform.
UNIFORM = torch.full((8,), 1 / 8, dtype=torch.float64)
GROUPS = ("exo_rw", "dpo_rw", "nca", "rwr", "awr", "weighted")


def case(name: str) -> tuple[Tensor, Tensor]:
    """Return the reference and the labels."""
    from tests.objectives.tabular import REFERENCE

    return (UNIFORM if name in GROUPS else REFERENCE), HARD


def test_all_objectives_with_the_key_are_tested() -> None:
    with_key = {name for name in OBJECTIVES if hasattr(settings_of(name), "calibrate")}
    # CRR weighs by 0 and 1 unless it is told otherwise, and is `weighted` then.
    assert with_key - {"crr"} == {name for name, _ in CALIBRATED}


@pytest.mark.parametrize("mass", [0.6, 0.8, 0.95, 0.999])
@pytest.mark.parametrize(("name", "values"), CALIBRATED)
def test_the_optimum_has_the_mass_asked_for(name: str, values: dict[str, Any], mass: float) -> None:
    reference, good = case(name)
    z = shares(good, reference)
    bound = settings_of(name, calibrate=mass, **values).bind("mixed", None)

    def loss(feedback: Feedback) -> Tensor:
        if name in GROUPS:  # whose labels are ±1, one of each sample
            feedback = feedback._replace(accept=good[None], reject=1 - good[None])
        value: Tensor = bound(feedback, z).loss
        return value

    policy = minimum(loss, good, reference)
    assert policy[good == 1].sum().item() == pytest.approx(mass, abs=2e-5)


@pytest.mark.parametrize(("name", "values"), CALIBRATED)
@pytest.mark.parametrize("accepted", [0.0, 0.7, 0.9])
def test_a_mass_at_or_below_the_references_is_refused(
    name: str, values: dict[str, Any], accepted: float
) -> None:
    bound = settings_of(name, calibrate=0.7, **values).bind("mixed", None)
    with pytest.raises(ConfigError, match="must exceed the share of accepted samples"):
        bound.warning(Shares(accepted, 1 - accepted))


NEUTRAL = numbers(0, 1, 0, 0, 1, 0, 0, 0)  # outcomes that are neither accepted nor rejected
# NCA's slopes are balanced for samples that all have a label, as is the mean that AWR takes off.
PARTLY = [
    case for case in CALIBRATED if case[0] not in ("nca", "awr") and case[1].get("weight") != "exp"
]


@pytest.mark.parametrize(("name", "values"), PARTLY)
def test_outcomes_without_a_label_do_not_change_the_odds(name: str, values: dict[str, Any]) -> None:
    reference, good = case(name)
    seen = 1 - NEUTRAL
    accepted, rejected = ((reference * x * seen).sum().item() for x in (good, 1 - good))
    bound = settings_of(name, calibrate=0.8, **values).bind("mixed", None)

    def loss(feedback: Feedback) -> Tensor:
        scale = 1 if name not in GROUPS else 1 / (8 * reference)
        feedback = feedback._replace(
            accept=feedback.accept * seen * scale, reject=feedback.reject * seen * scale
        )
        value: Tensor = bound(feedback, Shares(accepted, rejected)).loss
        return value

    policy = minimum(loss, good, reference)
    labelled = (policy * seen).sum()
    assert (policy * good * seen).sum() / labelled == pytest.approx(0.8, abs=2e-5)
