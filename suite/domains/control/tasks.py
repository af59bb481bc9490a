"""Which tasks exist, known without importing torch: mistakes are reported before a run starts."""

import difflib
import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from suite.config.fields import ConfigError

EXTRA = "pip install 'pmpo-suite[control]'"


def prepare_libraries() -> None:
    """Set what MuJoCo and torchrl read when they are imported, unless the user has set it.

    MuJoCo loads no renderer; `rendering.choose_renderer` chooses one where a video is asked for.
    torchrl logs no notice for every replay buffer.
    """
    os.environ.setdefault("MUJOCO_GL", "disable")
    os.environ.setdefault("RL_LOGGING_LEVEL", "WARNING")


@cache
def check_task(task: str, gymnasium: bool) -> None:
    """Raise ConfigError unless the task exists, naming near ones, and has continuous actions."""
    prepare_libraries()
    for package in ("torchrl", "psutil"):
        require(package)
    if gymnasium:
        check_gymnasium(task)
    else:
        check_control_suite(task)


def check_control_suite(task: str) -> None:
    """Raise ConfigError unless the Control Suite has the task, DOMAIN-TASK."""
    require("dm_control")
    from dm_control.suite import ALL_TASKS

    known = [f"{domain}-{name}" for domain, name in ALL_TASKS]
    if task not in known:
        near = difflib.get_close_matches(task, known, n=3, cutoff=0.5)
        same = [name for name in known if name.startswith(task.partition("-")[0] + "-")]
        raise ConfigError(
            f"domain.task={task} is no task of the Control Suite;"
            f" near ones: {', '.join(near or same or known)}"
        )


def check_gymnasium(task: str) -> None:
    """Raise ConfigError unless Gymnasium can make the environment, and with continuous actions."""
    require("gymnasium")
    import gymnasium as gym

    module, _, name = task.rpartition(":")
    if module:
        import_module_of(task, module)
    if name not in gym.registry:
        near = difflib.get_close_matches(name, gym.registry, n=3, cutoff=0.5)
        origin = f", and importing {module} registered no {name}" if module else ""
        raise ConfigError(
            f"domain.task={task} is no environment of Gymnasium{origin};"
            f" near ones: {', '.join(near) or 'none'}"
        )
    try:
        env = gym.make(name)
    except gym.error.DependencyNotInstalled as error:
        raise ConfigError(f"domain.task={task} cannot be made: {error}") from None
    except Exception as error:  # of the code of an environment
        raise ConfigError(
            f"domain.task={task} cannot be made: {type(error).__name__}: {error}"
        ) from error
    space = env.action_space
    env.close()
    if not isinstance(space, gym.spaces.Box):
        raise ConfigError(
            f"domain.task={task} has actions {space}; the control domain supports continuous ones"
            " only, a bounded Box"
        )


def import_module_of(task: str, module: str) -> None:
    """Import the module that registers an environment; raises ConfigError naming the reason."""
    try:
        import_module(module)
    except (Exception, SystemExit) as error:  # the user's own code
        raise ConfigError(
            f"domain.task={task}: {module} cannot be imported from here or from an installed"
            f" package: {type(error).__name__}: {error}"
        ) from error


def require(package: str) -> None:
    """Raise ConfigError naming the extra that brings a package."""
    if find_spec(package) is None:
        raise ConfigError(f"domain.name=control needs {package}: {EXTRA}")
