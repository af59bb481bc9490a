"""Language tasks by name; a new one is a file here and a line below."""

from suite.domains.language.config import LMConfig
from suite.domains.language.tasks.arithmetic import Arithmetic
from suite.domains.language.tasks.base import Task
from suite.domains.language.tasks.letters import Letters
from suite.domains.language.tasks.prompt_file import PromptFile


def build_task(settings: LMConfig) -> Task | None:
    """Build the built-in task that the settings name; none for prompts that are not ours."""
    if settings.task == "prompts":
        return None
    return Arithmetic(settings.digits) if settings.task == "arithmetic" else Letters()


def prompt_file(settings: LMConfig) -> PromptFile:
    """Read the prompts of a file."""
    assert settings.prompts_path is not None  # the configuration was checked
    return PromptFile(settings.prompts_path, settings.max_new_tokens)
