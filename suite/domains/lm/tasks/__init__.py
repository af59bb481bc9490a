"""Language tasks by name; a new one is a file here and a line below."""

from suite.domains.lm.config import LMConfig
from suite.domains.lm.tasks.arithmetic import Arithmetic
from suite.domains.lm.tasks.base import Task


def build_task(settings: LMConfig) -> Task:
    """Build the task that the settings name."""
    tasks = {"arithmetic": lambda: Arithmetic(settings.digits)}
    return tasks[settings.task]()
