"""The trained policy as a folder, with a model card; the folder is complete or absent."""

import shutil

from suite.config.schema import Config
from suite.domains.base import Domain
from suite.objectives.base import Objective
from suite.runs.folder import RunFolder
from suite.system import distributed
from suite.training.card import write_card


class ExportError(Exception):
    """The policy could not be written; the message says where it still is."""


def export(run: RunFolder, config: Config, domain: Domain, objective: Objective) -> None:
    """Write the policy into the run's folder; every rank calls it. Raises ExportError."""
    folder, unfinished = run.path / "policy", run.path / ".policy.new"
    is_first = distributed.rank() == 0
    try:
        if is_first:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
        if is_first or config.trainer.strategy == "fsdp":
            domain.save(unfinished)
        if is_first:
            write_card(unfinished, config, objective, domain.shares, run.metrics())
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
    except Exception as error:  # each library raises its own errors for a full disk
        if is_first:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise ExportError(
            f"{folder} cannot be written: {error}; the trained policy is in {run.checkpoints}, and"
            " the same command writes it once that is mended"
        ) from error
