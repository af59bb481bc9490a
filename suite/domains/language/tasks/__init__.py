"""Language tasks; each built-in task is a file here and a line in suite/config/registry.py."""

from suite.config.registry import choose
from suite.domains.language.online_config import LMConfig
from suite.domains.language.tasks.arithmetic import Arithmetic
from suite.domains.language.tasks.base import Task
from suite.domains.language.tasks.prompt_file import PromptFile


def build_task(settings: LMConfig) -> Task | None:
    """Build the task that the settings name; None for the prompts of a file."""
    if settings.task == "prompts":
        return None
    if settings.task == "arithmetic":
        return Arithmetic(settings.digits)
    task: Task = choose("task", settings.task).settings()
    return task


def prompt_file(settings: LMConfig) -> PromptFile:
    """Read the prompts of a file."""
    assert settings.prompts_path is not None  # the configuration was checked
    return PromptFile(settings.prompts_path, settings.max_new_tokens)
