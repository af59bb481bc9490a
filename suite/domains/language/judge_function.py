"""Judges that are functions of a person's own code.

A configuration can name any function, and a judge is called with many texts. So a function must say
that it is a judge, by the names of its parameters, or a person must name it on the command line.
Nothing here is heavy to import.
"""

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from suite.config.fields import ConfigError
from suite.config.registry import imported

PARAMETERS = ["prompts", "completions"]
KEY = "domain.judge"
NAMED = "SUITE_JUDGE"  # in the environment, since worker processes must know it too


def is_import_path(name: str) -> bool:
    """Tell whether a judge is a function rather than a word or a reward model."""
    return ":" in name and not Path(name).exists()


def import_judge(name: str) -> Callable[..., Sequence[float]]:
    """Import a function `package.module:name`; raises ConfigError where it is no judge."""
    judge: Any = imported(KEY, name, name)
    if not callable(judge):
        raise ConfigError(f"{KEY}={name} must be a function, found {type(judge).__name__}")
    if not is_declared(judge) and os.environ.get(NAMED) != name:
        raise ConfigError(
            f"{KEY}={name} is not declared a judge: name its first two parameters prompts and"
            f" completions, or give {KEY}={name} on the command line"
        )
    function: Callable[..., Sequence[float]] = judge
    return function


def is_declared(judge: Callable[..., Any]) -> bool:
    """Tell whether the first two parameters have the names of a judge's."""
    if isinstance(judge, type):
        return False
    try:
        return list(inspect.signature(judge).parameters)[:2] == PARAMETERS
    except (TypeError, ValueError):  # functions that are not written in Python may have none
        return False


def allow_named(overrides: Sequence[str]) -> None:
    """Let this process and its workers call the judge that a command line names."""
    os.environ.pop(NAMED, None)
    for override in overrides:
        name, _, value = override.partition("=")
        if name.strip() == KEY:
            os.environ[NAMED] = value.strip().strip("'\"")
