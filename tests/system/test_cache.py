"""Artefacts are made once, whole or not at all, also by several processes and after a kill."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from suite.system.cache import cached
from tests.conftest import ROOT
from tests.processes import finish, wait_until

SLOW_MAKER = """
import os, sys, time
from pathlib import Path
from suite.system.cache import cached

def make(folder):
    folder.mkdir()
    (folder / "first").write_text(str(os.getpid()))
    print("making", flush=True)
    time.sleep(float(sys.argv[2]))
    (folder / "second").write_text(str(os.getpid()))

print((cached(Path(sys.argv[1]), make) / "second").read_text())
"""


def write(path: Path) -> None:
    path.write_text("new")


def maker(path: Path, seconds: float) -> "subprocess.Popen[str]":
    """Start a process that wants an artefact and takes some time to make it."""
    command = [sys.executable, "-c", SLOW_MAKER, str(path), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_an_artefact_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "some/folder/artefact"
    assert cached(path, write) == path
    assert path.read_text() == "new"
    path.write_text("kept")
    cached(path, lambda _: pytest.fail("it was made again"))
    assert path.read_text() == "kept"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_error_leaves_nothing_but_the_checkpoint(kind: str, tmp_path: Path) -> None:
    checkpoint = tmp_path / ".artefact.ckpt"

    def fail(path: Path) -> None:
        if kind == "folder":
            path.mkdir()
        checkpoint.write_text("half")
        (path / "part" if kind == "folder" else path).write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        cached(tmp_path / "artefact", fail, checkpoint)
    assert {p.name for p in tmp_path.iterdir()} - {".artefact.lock"} == {checkpoint.name}
    cached(tmp_path / "artefact", write, checkpoint)
    assert not checkpoint.exists()


def test_processes_that_start_together_make_one_artefact(tmp_path: Path) -> None:
    processes = [maker(tmp_path / "artefact", 0.5) for _ in range(2)]
    outputs = [finish(process) for process in processes]
    assert [code for code, _ in outputs] == [0, 0]
    assert sum(output.count("making") for _, output in outputs) == 1
    assert len({output.split()[-1] for _, output in outputs}) == 1


def test_what_a_killed_maker_left_is_never_used(tmp_path: Path) -> None:
    path = tmp_path / "artefact"
    killed = maker(path, 60)
    wait_until((tmp_path / ".artefact.new/first").exists, killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not path.exists()
    assert (tmp_path / ".artefact.new").exists()
    code, output = finish(maker(path, 0))
    assert code == 0
    assert "making" in output
    assert {p.name for p in tmp_path.iterdir()} - {".artefact.lock"} == {"artefact"}
    texts = {file.read_text() for file in path.iterdir()}
    assert len(texts) == 1, "no file of the killed maker"
