"""A video of a policy: one episode as an MP4, rendered without a screen."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suite.domains.control.offline import Offline
    from suite.domains.control.online import Control

FRAMES_PER_SECOND = 25
HEIGHT, WIDTH = 240, 320


def film(domain: "Control | Offline", path: Path) -> float:
    """Write the first evaluation episode as an MP4, and return its return."""
    import imageio.v2 as imageio
    import torch

    from suite.domains.control.environments import Environments

    settings, policy = domain.settings, domain.acting_policy()
    render = render_gymnasium if settings.gymnasium else render_control_suite
    env = Environments(settings, domain.evaluation_stream, 1, rendered=True)
    seconds = seconds_per_step(env.env, settings.gymnasium) * settings.action_repeat
    stride = max(1, round(1 / (seconds * FRAMES_PER_SECOND)))
    total, actions, over = 0.0, 0, False
    temporary = path.with_name(f".{path.name}.partial.mp4")
    with imageio.get_writer(temporary, fps=1 / (seconds * stride), macro_block_size=1) as writer:
        while not over:
            if actions % stride == 0:
                writer.append_data(render(env.env))  # type: ignore[attr-defined]
            with torch.no_grad():
                mean, _ = policy.actor(policy.normalized(env.observation))
            outcome = env.step(mean.clamp(-1, 1))
            total += outcome.reward.item()
            over, actions = bool(outcome.terminated | outcome.truncated), actions + 1
    os.replace(temporary, path)
    env.close()
    return total


def render_control_suite(env: Any) -> Any:
    """Return an image of the current state, [height, width, 3]."""
    return env._env.physics.render(HEIGHT, WIDTH, camera_id=0)


def render_gymnasium(env: Any) -> Any:
    """Return an image of the current state, [height, width, 3]."""
    return env._env.render()


def seconds_per_step(env: Any, gymnasium: bool) -> float:
    """Return the simulated time of an environment step."""
    if gymnasium:
        return 1 / float(env._env.metadata.get("render_fps", 30))
    return float(env._env.control_timestep())
