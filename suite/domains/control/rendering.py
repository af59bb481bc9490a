"""How MuJoCo renders without a screen, which is decided before it is imported."""

import os
import sys
from ctypes.util import find_library

from suite.config.fields import ConfigError

BACKENDS = {"egl": ("EGL", "libegl1"), "osmesa": ("OSMesa", "libosmesa6")}


def choose_renderer() -> None:
    """Choose MuJoCo's renderer before MuJoCo is imported; raises ConfigError where none works."""
    if os.environ.get("MUJOCO_GL") in BACKENDS:
        return
    if "mujoco" in sys.modules:
        raise ConfigError(
            "a video needs a process that has not loaded MuJoCo yet, which was done without"
            " rendering: `suite evaluate RUN --video` is one, or set MUJOCO_GL=osmesa at the start"
        )
    # OSMesa first: it renders on the CPU and works without a driver.
    for name in ("osmesa", "egl"):
        if find_library(BACKENDS[name][0]) is not None:
            os.environ["MUJOCO_GL"] = name
            return
    raise ConfigError(
        "a video needs OSMesa or EGL to render without a screen, and neither is here: on Debian"
        " `apt-get install libosmesa6` (or libegl1, on a machine with a GPU)"
    )
