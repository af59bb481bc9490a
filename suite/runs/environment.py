"""What a run was made with: versions, machine, git commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from suite.system.digests import own_source_digest

PACKAGES = (
    *("torch", "lightning", "transformers", "omegaconf", "numpy"),
    *("torchrl", "dm_control", "mujoco", "gymnasium"),  # of the extra `control`
)
ROOT = Path(__file__).parents[2]  # the checkout, or site-packages
THIS_FILE = str(Path(__file__).relative_to(ROOT))
GIT_SECONDS = 10  # time limit of each git command


def environment() -> dict[str, Any]:
    """Describe the versions, the machine, the git commit and the source of this process."""
    versions = {package: installed_version(package) for package in PACKAGES}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": {name: number for name, number in versions.items() if number is not None},
        "git": git_commit(),
        "source": own_source_digest(),
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what computes otherwise than in an earlier attempt: the suite's code, the packages."""
    found = []
    source = "source" if before.get("source") else "git"  # which earlier versions did not record
    if before.get(source) and before[source] != now[source]:
        found.append(f"the suite's code (commit {before.get('git')} → {now['git']})")
    earlier = before.get("packages")
    earlier = {"python": before.get("python"), **(earlier if isinstance(earlier, dict) else {})}
    current = {"python": now["python"], **now["packages"]}
    found += [
        f"{name} ({earlier[name]} → {current.get(name, 'none')})"
        for name in earlier
        if earlier[name] and earlier[name] != current.get(name)
    ]
    return found


def installed_version(package: str) -> str | None:
    """Return a package's version, or None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Return the commit of this source tree, with `+changes` where tracked files differ from it.

    None outside a checkout. An installed copy may lie inside the repository of another project, as
    in its .venv; that repository does not track this file, and its commit says nothing about it.

    Results and README do not count as changes: `suite claims` writes them between runs.
    """
    others = [".", ":(exclude)results", ":(exclude)README.md"]
    try:
        git("ls-files", "--error-unmatch", "--", THIS_FILE)  # fails where it is not tracked
        commit = git("rev-parse", "--short=12", "HEAD")
        changes = git("status", "--porcelain", "--untracked-files=no", "--", *others)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changes else "")


def git(*arguments: str) -> str:
    """Return the output of a git command in the folder that holds this package.

    Raises OSError without git, and SubprocessError where the command fails or takes too long.
    """
    command = ["git", "-C", str(ROOT), *arguments]
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS
    )
    return result.stdout.strip()
