"""Films of a policy."""

import os
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest

from suite.config.fields import ConfigError
from suite.domains.control import rendering
from suite.evaluate import evaluate
from suite.runs.folder import RunFolder
from suite.train import train
from tests import processes
from tests.conftest import Tiny


def test_without_a_renderer_a_video_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "find_library", lambda name: None)
    monkeypatch.setenv("MUJOCO_GL", "disable")
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(ConfigError, match="needs a process that has not loaded MuJoCo yet"):
        rendering.choose_renderer()
    monkeypatch.delitem(sys.modules, "mujoco")
    with pytest.raises(ConfigError, match="on Debian `apt-get install libosmesa6`"):
        rendering.choose_renderer()
    monkeypatch.setattr(rendering, "find_library", lambda name: "lib" if name == "EGL" else None)
    rendering.choose_renderer()
    assert os.environ["MUJOCO_GL"] == "egl"


@pytest.mark.slow
@pytest.mark.skipif(find_library("OSMesa") is None, reason="needs OSMesa to render")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio's reader
def test_a_video_shows_a_whole_episode(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny("control", results=tmp_path)
    train(config)
    run = RunFolder.of(config)
    code, output = processes.suite("evaluate", str(run.path), "--video")
    assert code == 0, output
    import imageio.v3 as imageio

    frames = imageio.imread(run.path / "video.mp4")
    # 20 steps of 10 ms at 25 frames a second: every fourth step.
    assert frames.shape == (5, 240, 320, 3)
    assert frames[0].std() > 10, "something is to be seen"
    assert (frames[0] != frames[-1]).any()
    assert "video_return" in output


def test_only_control_can_be_filmed(tiny: Tiny) -> None:
    config = tiny("bandit")
    train(config)
    with pytest.raises(ConfigError, match=r"--video shows an environment, and domain.name=bandit"):
        evaluate(RunFolder.of(config).path, video=True)
