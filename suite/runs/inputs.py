"""The inputs of a run: what it reads that its configuration only names, such as rows and models.

Their digests are recorded when a run first begins. A later attempt, or a look at the finished run,
compares them: nobody gets the score of another file, or half a run on each of two files.
"""

import logging
import os
from typing import Any

from suite.config.fields import ConfigError
from suite.config.schema import Config
from suite.runs.folder import RunFolder
from suite.system.digests import digest_of
from suite.system.files import write_json

logger = logging.getLogger(__name__)
ALLOWED = "inputs allowed"  # an event of attempts.jsonl
SHOWN = 8  # digits of a digest in a message

Digests = dict[str, str | None]
Changes = dict[str, tuple[str, str]]  # by key: digest at the start, digest now


class InputsChanged(ConfigError):
    """An input of a run is not what the run began with, and nobody allowed that."""


def input_digests(config: Config) -> Digests:
    """Return the digest of every input by its key; None where it is not there (yet)."""
    named = config.domain.inputs()
    return {f"domain.{key}": digest_of(str(value)) for key, value in named.items()}


def recorded_digests(folder: RunFolder) -> Digests:
    """Return the digests that a run has recorded; empty for runs of earlier versions."""
    inputs = folder.environment().get("inputs")
    return inputs if isinstance(inputs, dict) else {}


def changed_inputs(folder: RunFolder, current: Digests) -> Changes:
    """Return the inputs whose recorded digest differs from the current one."""
    return {
        key: (before, now)
        for key, before in recorded_digests(folder).items()
        if (now := current.get(key)) and isinstance(before, str) and before != now
    }


def check_inputs(folder: RunFolder, config: Config) -> Digests:
    """Return the digests of a run's inputs; raises InputsChanged where the run cannot go on.

    A run that has no checkpoint begins again, and may read anything.
    """
    current = input_digests(config)
    changes = changed_inputs(folder, current)
    is_finished = folder.state() == "finished"
    allowed = changes_allowed(folder)
    refused = {key: pair for key, pair in changes.items() if pair[1] not in allowed.get(key, ())}
    if refused and (is_finished or any(folder.checkpoints.glob("*.ckpt"))):
        raise InputsChanged(f"{folder.path}: {sentence(config, refused)}; {way_out(is_finished)}")
    if changes:
        logger.warning("%s: %s", folder.path.name, sentence(config, changes))
    return current


def allow_changes(config: Config) -> None:
    """Record in attempts.jsonl that a run may go on with its inputs as they are now."""
    folder = RunFolder.of(config)
    changes = changed_inputs(folder, input_digests(config))
    if changes and os.environ.get("RANK", "0") == "0":
        inputs = {key: {"was": was, "is": now} for key, (was, now) in changes.items()}
        folder.record_event(ALLOWED, folder.progress().get("step") or 0, inputs=inputs)


def changes_allowed(folder: RunFolder) -> dict[str, set[str]]:
    """Return the digests that somebody allowed, by key."""
    allowed: dict[str, set[str]] = {}
    for row in folder.event_rows(ALLOWED):
        inputs: Any = row.get("inputs")
        for key, pair in inputs.items() if isinstance(inputs, dict) else ():
            if isinstance(pair, dict):
                allowed.setdefault(key, set()).add(str(pair.get("is")))
    return allowed


def warn_of_changes(folder: RunFolder, config: Config) -> None:
    """Log a warning where an input of a run is not what the run began with."""
    if changes := changed_inputs(folder, input_digests(config)):
        logger.warning("%s: %s", folder.path.name, sentence(config, changes))


def check_loaded(folder: RunFolder, config: Config, at_start: bool) -> None:
    """Record the digests of what the domain has fetched by now, as models of the hub.

    Raises InputsChanged where a run that goes on, which is not `at_start`, got something else.
    """
    found = input_digests(config) if at_start else check_inputs(folder, config)
    recorded = recorded_digests(folder)
    complete = {key: digest or recorded.get(key) for key, digest in found.items()}
    if complete != recorded:
        write_json(folder.path / "environment.json", folder.environment() | {"inputs": complete})


def sentence(config: Config, changes: Changes) -> str:
    """Return which inputs changed, with the first digits of both digests."""
    named = {f"domain.{key}": value for key, value in config.domain.inputs().items()}
    return " and ".join(
        f"{key}={named.get(key)} is not what the run began with (digest {was[:SHOWN]}, now"
        f" {now[:SHOWN]})"
        for key, (was, now) in changes.items()
    )


def way_out(is_finished: bool) -> str:
    """Return what a person can do about changed inputs."""
    if is_finished:
        return (
            "the run is finished, and its score is that of the former input; another sweep=NAME"
            " trains anew, --changed-inputs keeps the run"
        )
    return (
        "bring the former input back, train anew under another sweep=NAME, or go on all the same"
        " with --changed-inputs"
    )
