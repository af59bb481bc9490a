"""The trained policy as a folder, with a model card; the folder is complete or absent."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from suite.config.schema import Config
from suite.domains.base import Domain
from suite.feedback.feedback import Shares
from suite.objectives.base import HasStrength, Objective
from suite.runs.folder import DIGESTS, RunFolder
from suite.runs.lease import LeaseLost
from suite.system import distributed
from suite.system.files import digest, remove, sync_tree, temporary_path, write_text

TEMPLATE = Path(__file__).with_name("card.md.j2")


class ExportError(Exception):
    """The policy could not be written; the message says where it still is."""


def export(run: RunFolder, config: Config, domain: Domain, objective: Objective) -> None:
    """Write the policy into the run's folder; every rank calls it. Raises ExportError."""
    folder = run.path / "policy"
    unfinished = temporary_path(folder)
    is_first = distributed.rank() == 0
    try:
        if is_first:
            remove(unfinished)  # left by a kill, with any content
            unfinished.mkdir()
        if is_first or config.trainer.strategy == "fsdp":
            domain.save(unfinished)
        if is_first:
            write_card(unfinished, config, objective, domain.shares, run.metrics())
            sync_tree(unfinished)
            sums = digests(unfinished)
            run.check_lease()
            remove(folder)
            unfinished.rename(folder)
            write_text(run.path / DIGESTS, sums, durable=True)
    except LeaseLost:
        raise
    except Exception as error:  # each library raises its own errors for a full disk
        raise ExportError(
            f"{folder} cannot be written: {error}; the trained policy is in {run.checkpoints}, and"
            " the same command writes it once that is mended"
        ) from error
    finally:
        if is_first:
            remove(unfinished)


def digests(folder: Path) -> str:
    """Return a line for each file of a folder that will be `policy`, as sha256sum writes it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return "".join(
        f"{digest(path)}  policy/{path.relative_to(folder).as_posix()}\n" for path in paths
    )


def write_card(
    folder: Path, config: Config, objective: Objective, shares: Shares, rows: list[dict[str, Any]]
) -> None:
    """Write README.md with its metadata, as model hubs show it; `rows` are the run's metrics."""
    from huggingface_hub import ModelCard, ModelCardData  # half a second to import

    domain = config.domain.card()
    is_whole = not (folder / "adapter_config.json").exists()  # what began as an adapter, too
    library = "transformers" if domain.library == "peft" and is_whole else domain.library
    metadata = ModelCardData(
        library_name=library,
        base_model=domain.base_model,
        tags=["pmpo", "preference-optimization", f"{config.feedback}-feedback"],
    )
    card = ModelCard.from_template(
        metadata,
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        config=config,
        data=domain.data,
        strength=strength(objective, shares),
        shares=shares,
        metrics=first_and_last(rows),
        configuration=OmegaConf.to_yaml(OmegaConf.create(asdict(config))),
    )
    write_text(folder / "README.md", f"{card}\n")


def first_and_last(rows: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Return each metric's value in the first and in the last evaluation, as text."""
    evaluations = [row for row in rows if "eval/score" in row]
    first, last = (evaluations[0], evaluations[-1]) if evaluations else ({}, {})
    return {
        name.removeprefix("eval/"): (f"{first[name]:.4g}", f"{value:.4g}")
        for name, value in last.items()
        if name.startswith("eval/") and name in first
    }


def strength(objective: Objective, shares: Shares) -> dict[str, str]:
    """Return α and β at the end of training as text; empty for objectives without them."""
    if not isinstance(objective, HasStrength):
        return {}
    alpha, beta = objective.alpha_under(shares), objective.beta(shares)
    return {"α": f"{alpha:.3g}", "β": f"{beta:.3g}"}
