"""The paper's claims: how each is judged and drawn, and the sweeps that test it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from matplotlib.figure import Figure

from suite.config.examples import claims_path, sweep_path
from suite.config.fields import ConfigError
from suite.config.loading import read_yaml
from suite.paper import (
    few_labels,
    p1_bandits,
    p2_control,
    p3_beta,
    p4_offline,
    p5_reward_model,
    p6_language_beta,
)
from suite.paper.judging import OPEN, Verdict
from suite.paper.records import SweepRecords
from suite.sweeps.spec import Sweep, load_sweep

FULL = "full"
SIZES = ("small", FULL, "large")


class ClaimModule(Protocol):
    """A module about one claim; `records` holds those of each of its sweeps, by name."""

    def judge(self, records: SweepRecords) -> Verdict:
        """Return whether the claim holds."""

    def draw(self, records: SweepRecords) -> Figure:
        """Return the claim's figure."""


MODULES: dict[str, ClaimModule] = {
    "P1": p1_bandits,
    "P2": p2_control,
    "P3": p3_beta,
    "P4": p4_offline,
    "P5": p5_reward_model,
    "P6": p6_language_beta,
    "labels": few_labels,
}


@dataclass(frozen=True)
class Claim:
    """A claim, and the sweeps that test it with the changes that each size makes to them."""

    name: str
    claim: str
    source: str
    sweeps: dict[str, dict[str, dict[str, Any]]]

    def judge(self, records: SweepRecords) -> Verdict:
        """Judge the claim; it is open until all of its sweeps were run."""
        return MODULES[self.name].judge(records) if all(records.values()) else OPEN

    def draw(self, records: SweepRecords) -> Figure:
        """Draw the claim's figure."""
        return MODULES[self.name].draw(records)


def load_claims(names: Iterable[str] = ()) -> list[Claim]:
    """Read the named claims, or all; raises ConfigError for an unknown name."""
    claims = {name: Claim(name, **values) for name, values in read_yaml(claims_path()).items()}
    for name in names:
        if name not in claims:
            raise ConfigError(f"claims are {', '.join(claims)}; found {name}")
    return [claims[name] for name in names] if names else list(claims.values())


def sweeps_of(claim: Claim, size: str, overrides: list[str]) -> dict[str, Sweep]:
    """Return a claim's sweeps at a size, each with its own results folder."""
    return {
        name: load_sweep(
            sweep_path(name), [f"sweep={name}{suffix(size)}", *overrides], changes.get(size)
        )
        for name, changes in claim.sweeps.items()
    }


def suffix(size: str) -> str:
    """Return the end of a size's folder names; the full size has none."""
    return "" if size == FULL else f"_{size}"


def folder(results: Path, size: str) -> Path:
    """Return the folder of a size's page, figures and records."""
    return results / f"claims{suffix(size)}"
