"""The trained policy as a folder, whole or not there, with a page that says what it is."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from omegaconf import OmegaConf

from suite.config.schema import Config
from suite.domains.base import Domain
from suite.feedback.feedback import Shares
from suite.objectives.base import Objective
from suite.runs.folder import RunFolder
from suite.system import distributed
from suite.system.files import write_text


class ExportError(Exception):
    """The policy could not be written; the message says where it still is."""


def export(run: RunFolder, config: Config, domain: Domain, objective: Objective) -> None:
    """Write the policy into the run's folder; every rank calls it. Raises ExportError."""
    folder, fresh = run.path / "policy", run.path / ".policy.new"
    try:
        if distributed.rank() == 0:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
        if distributed.rank() == 0 or config.trainer.strategy == "fsdp":
            domain.save(fresh)
        if distributed.rank() == 0:
            write_card(fresh, config, objective, domain.shares, run.metrics())
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
    except Exception as error:  # of the disk, in the words of whatever library wrote
        if distributed.rank() == 0:
            shutil.rmtree(fresh, ignore_errors=True)
        raise ExportError(
            f"{folder} cannot be written: {error}; the trained policy is in {run.checkpoints}, and"
            " the same command writes it once that is mended"
        ) from error


def write_card(
    folder: Path, config: Config, objective: Objective, shares: Shares, rows: list[dict[str, Any]]
) -> None:
    """Write README.md, as model hubs show it; `rows` are the run's metrics."""
    evaluations = [row for row in rows if "eval/score" in row]
    first, last = (evaluations[0], evaluations[-1]) if evaluations else ({}, {})
    card = config.domain.card()
    content = {
        "config": config,
        "library": card.library or "transformers",
        "base": card.base_model,
        "data": card.data,
        "strength": strength(objective, shares),
        "shares": shares,
        "metrics": {
            key.removeprefix("eval/"): (f"{first[key]:.4g}", f"{value:.4g}")
            for key, value in last.items()
            if key.startswith("eval/") and key in first
        },
        "whole": OmegaConf.to_yaml(OmegaConf.create(asdict(config))),
    }
    templates = Environment(
        loader=PackageLoader("suite.training", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    write_text(folder / "README.md", templates.get_template("card.md.j2").render(content))


def strength(objective: Any, shares: Shares) -> dict[str, str]:
    """Return α and β as they were in the end, where the objective has them."""
    if not hasattr(objective, "alpha") or not callable(getattr(objective, "beta", None)):
        return {}
    return {"α": f"{objective.alpha:g}", "β": f"{objective.beta(shares):.3g}"}
