"""The recorded environment: the commit is this source tree's, and no other repository's."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PRINT_COMMIT = "from suite.runs.environment import git_commit; print(git_commit())"
AUTHOR = ("-c", "user.name=A Name", "-c", "user.email=name@example.org")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *AUTHOR, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def copy_package(folder: Path) -> None:
    """Copy the package into a folder, as an installation does."""
    shutil.copytree(ROOT / "suite", folder / "suite", ignore=shutil.ignore_patterns("*.pyc"))


def commit_seen_by(folder: Path) -> str:
    """Return the commit that the copy of the package in a folder reports."""
    command = [sys.executable, "-c", PRINT_COMMIT]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git repository with one commit."""
    (tmp_path / "README.md").write_text("A project\n")
    (tmp_path / ".gitignore").write_text(".venv/\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=First")
    return tmp_path


def test_a_checkout_reports_its_commit_and_whether_sources_differ(project: Path) -> None:
    copy_package(project)
    (project / "results").mkdir()
    (project / "results/page.md").write_text("A result\n")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message=Second")
    commit = git(project, "rev-parse", "--short=12", "HEAD")
    (project / "results/page.md").write_text("Another result\n")
    (project / "README.md").write_text("Another text\n")
    assert commit_seen_by(project) == commit, "commands write results and README"
    (project / "suite/train.py").write_text("# Another source\n")
    assert commit_seen_by(project) == f"{commit}+changes"


@pytest.mark.parametrize("folder", [".venv/lib/python3/site-packages", "untracked"])
def test_an_installed_copy_does_not_report_the_commit_of_the_project_around_it(
    project: Path, folder: str
) -> None:
    (project / folder).mkdir(parents=True)
    copy_package(project / folder)
    assert git(project / folder, "rev-parse", "HEAD"), "git finds a repository there"
    assert commit_seen_by(project / folder) == "None"


def test_without_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    copy_package(tmp_path)
    assert commit_seen_by(tmp_path) == "None"
