"""Which claims there are, and the runs that test them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.config.fields import ConfigError
from suite.config.loading import read_yaml
from suite.report.comparison import collect
from suite.report.records import RunRecord, store, stored
from suite.sweeps.spec import Sweep, load_sweep

CLAIMS = Path("configs/claims.yaml")
SWEEPS = Path("configs/sweeps")
FULL = "full"
SIZES = ("small", FULL, "large")


@dataclass(frozen=True)
class Claim:
    """A claim, and the sweeps that test it with what each size changes of them."""

    name: str
    claim: str
    source: str
    sweeps: dict[str, dict[str, dict[str, Any]]]


def load_claims(chosen: Iterable[str] = ()) -> list[Claim]:
    """Read the claims; raises ConfigError for one that is chosen and not there."""
    found = {name: Claim(name, **values) for name, values in read_yaml(CLAIMS).items()}
    for name in chosen:
        if name not in found:
            raise ConfigError(f"claims are {', '.join(found)}; found {name}")
    return [found[name] for name in chosen] if chosen else list(found.values())


def sweeps_of(claim: Claim, size: str, overrides: list[str]) -> dict[str, Sweep]:
    """Return a claim's sweeps at a size, each in a folder of its own."""
    return {
        name: load_sweep(
            SWEEPS / f"{name}.yaml", [f"sweep={name}{suffix(size)}", *overrides], sizes.get(size)
        )
        for name, sizes in claim.sweeps.items()
    }


def suffix(size: str) -> str:
    """Return what tells the folders of a size from others."""
    return "" if size == FULL else f"_{size}"


def folder(results: Path, size: str) -> Path:
    """Return where the page, its figures and the records of a size are."""
    return results / f"claims{suffix(size)}"


def keep(sweep: Sweep, name: str, where: Path) -> bool:
    """Write the records of a sweep, from which page and figures are made, once all runs are over.

    Before that those of an earlier time stay as they are; return whether all are over. Raises
    ConfigError where more runs had finished then.
    """
    records = collect(sweep)
    if any(record.state not in ("finished", "failed") for record in records):
        return False
    path = where / f"{name}.jsonl"
    now = sum(record.state == "finished" for record in records)
    before = sum(r.state == "finished" for r in stored(path)) if path.exists() else 0
    if now < before:
        raise ConfigError(
            f"{path} holds {before} finished runs, and only {now} of {len(records)} finished now:"
            " it was left as it is; see why they failed, or move it away"
        )
    where.mkdir(parents=True, exist_ok=True)
    store(path, records)
    return True


def kept(claim: Claim, where: Path) -> dict[str, list[RunRecord]]:
    """Return the records of a claim's sweeps; empty lists for those that were not run yet."""
    paths = {name: where / f"{name}.jsonl" for name in claim.sweeps}
    return {name: stored(path) if path.exists() else [] for name, path in paths.items()}
