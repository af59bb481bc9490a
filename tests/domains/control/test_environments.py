"""Environments: episodes that end and come back as they should, and tasks that do not exist."""

import dataclasses
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from suite.config.fields import ConfigError
from suite.config.schema import Config
from suite.domains.control import tasks
from suite.domains.control.environments import Environments, UnusableObservation, build
from suite.domains.control.online import Control
from suite.domains.control.online_config import ControlConfig
from suite.runs.folder import RunFolder
from suite.train import train
from tests import processes
from tests.conftest import BASE, SCHEDULE, TINY, Tiny


def settings_of(task: str, **changes: object) -> ControlConfig:
    return dataclasses.replace(ControlConfig(task=task), **changes)  # type: ignore[arg-type]


def roll(env: Environments, steps: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(steps):
        shape = (env.count, env.action_size)
        outcome = env.step(2 * torch.rand(shape, generator=generator) - 1)
        found.append(torch.cat([part.reshape(-1).float() for part in outcome]))
    return found


# The reacher moves its target by changing the model; Pendulum is Gymnasium's.
@pytest.mark.parametrize(
    "task", ["reacher-easy", "walker-walk", "ball_in_cup-catch", "Pendulum-v1"]
)
def test_an_environment_comes_back_exactly_in_the_middle_of_an_episode(task: str) -> None:
    settings = settings_of(task, episode_length=30)
    first = Environments(settings, (3,), 1)
    roll(first, 47)
    state = first.state_dict()
    expected = roll(first, 40, seed=1)
    second = Environments(settings, (3,), 1)
    second.load_state_dict(state)
    for a, b in zip(expected, roll(second, 40, seed=1), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_parallel_environments_are_seeded_apart_and_come_back_exactly(tmp_path: Path) -> None:
    code = """
import torch
from tests.domains.control.test_environments import Environments, roll, settings_of

if __name__ == "__main__":
    settings = settings_of("cartpole-swingup", episode_length=30)
    first = Environments(settings, (3,), 2)
    assert not torch.equal(first.observation[0], first.observation[1])
    alone = Environments(settings, (3,), 1)
    assert torch.equal(alone.observation[0], first.observation[0])
    roll(first, 47)
    assert first.steps == 94
    state = first.state_dict()
    expected = roll(first, 40, seed=1)
    first.load_state_dict(state)
    found = roll(first, 40, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(expected, found))
    first.close()
    print("SAME")
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert "SAME" in done.stdout, done.stderr


def children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


@pytest.mark.slow
def test_a_run_with_parallel_environments_goes_on_exactly_and_leaves_no_process_behind(
    tiny: Tiny, tmp_path: Path
) -> None:
    options = ["domain.num_envs=2", "domain.warmup=60", "trainer.steps=600"]
    options += ["trainer.eval_every=200", "trainer.checkpoint_every=50"]
    config = tiny("control", *options, results=tmp_path / "torn")
    whole = tiny("control", *options, results=tmp_path / "whole")

    def command(of: Config) -> list[str]:
        where = [f"results_dir={of.results_dir}", f"sweep={of.sweep}"]
        return ["train", BASE["control"], *TINY["control"], *SCHEDULE, *options, *where]

    assert processes.suite(*command(whole))[0] == 0
    run, seen = RunFolder.of(config), set()
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = processes.start(command(config))
        processes.wait_until(
            lambda p=process.pid: (
                run.progress().get("pid") == p
                and run.progress()["phase"] == "training"
                and (run.checkpoints / "last.ckpt").exists()
            ),
            process,
        )
        seen.update(children(process.pid))
        process.send_signal(number)
        code, output = processes.finish(process)
        assert code == (130 if number == signal.SIGTERM else -signal.SIGKILL), output
    assert processes.suite(*command(config))[0] == 0
    assert run.metrics_path.read_bytes() == RunFolder.of(whole).metrics_path.read_bytes()
    assert len(seen) >= 2
    assert not [pid for pid in seen if psutil.pid_exists(pid)]


def test_a_time_limit_truncates_and_a_goal_terminates() -> None:
    limited = Environments(settings_of("Pendulum-v1"), (0,), 1)
    flags = [(row[-2].item(), row[-1].item()) for row in roll(limited, 200)]
    assert flags == [(0, 0)] * 199 + [(0, 1)]
    own = Environments(settings_of("cartpole-swingup", episode_length=7), (0,), 1)
    flags = [(row[-2].item(), row[-1].item()) for row in roll(own, 14)]
    assert flags == ([(0, 0)] * 6 + [(0, 1)]) * 2
    # The car is pushed with the direction of its velocity until it reaches the goal.
    car = Environments(settings_of("MountainCarContinuous-v0"), (0,), 1)
    outcome = car.step(torch.ones(1, 1))
    while not (outcome.terminated or outcome.truncated):
        outcome = car.step(car.observation[:, 1:].sign())
    assert outcome.terminated
    assert not outcome.truncated
    assert car.steps < 999


def test_a_repeated_action_sums_rewards_and_counts_every_step() -> None:
    once = Environments(settings_of("walker-walk"), (5,), 1)
    twice = Environments(settings_of("walker-walk", action_repeat=2), (5,), 1)
    action = torch.full((1, 6), 0.3)
    rewards = [once.step(action).reward.item() for _ in range(4)]
    summed = [twice.step(action).reward.item() for _ in range(2)]
    assert summed == pytest.approx([rewards[0] + rewards[1], rewards[2] + rewards[3]], abs=1e-6)
    assert torch.equal(once.observation, twice.observation)
    assert once.steps == twice.steps == 4


@pytest.mark.parametrize(
    ("task", "repeat"), [("walker-walk", 1), ("reacher-easy", 3), ("cartpole-balance_sparse", 2)]
)
def test_the_short_way_through_a_step_is_that_of_torchrl(task: str, repeat: int) -> None:
    settings = settings_of(task, action_repeat=repeat, episode_length=40 * repeat)
    ours, theirs = (build(settings, (0, 0)) for _ in range(2))
    ours.reset()
    theirs.reset()
    for _ in range(90):
        action = theirs.action_spec.rand()
        after, now = ours.advance(action)
        stepped, following = theirs.step_and_maybe_reset(TensorDict({"action": action}, []))
        for name in (*theirs.observation_spec.keys(), "reward", "terminated", "truncated", "done"):
            expected = stepped["next", name].reshape(-1)
            assert torch.equal(after[name].reshape(-1).to(expected.dtype), expected)
        assert all(
            torch.equal(now[name].reshape(-1), following[name].reshape(-1))
            for name in theirs.observation_spec.keys()  # noqa: SIM118 - torchrl's, not a dict
        )
    assert ours.episode == theirs.episode == 2


def test_actions_are_scaled_to_the_environments_bounds() -> None:
    env = Environments(settings_of("Pendulum-v1"), (0,), 1)
    env.step(torch.tensor([[-1.0]]))
    env.step(torch.tensor([[0.5]]))
    assert [a.item() for a in env.env.actions] == [-2.0, 1.0]


def test_evaluations_and_training_begin_no_episode_alike() -> None:
    settings = ControlConfig()
    streams = [(*Control.training_stream, seed, i) for seed in (0, 1) for i in (0, 1)]
    streams.append((*Control.evaluation_stream, 0))
    seeds = []
    for stream in streams:
        env = build(settings, stream)
        for env.episode in range(3):
            seeds.append(env.episode_seed())
    assert len(set(seeds)) == len(seeds) == 15


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("walker-wlak", "is no task of the Control Suite; near ones: walker-walk"),
        ("wolker-walk", "near ones: walker-walk"),
        ("Pendulm-v1", "is no environment of Gymnasium; near ones: Pendulum-v1"),
        ("CartPole-v1", r"has actions Discrete\(2\); the control domain supports continuous ones"),
        ("cartpole", "is no task of the Control Suite; near ones: cartpole-"),
        ("walker walk", "must be a Control Suite task such as walker-walk, a Gymnasium id such"),
        ("no_such_module:Mine-v0", "no_such_module cannot be imported .*ModuleNotFoundError"),
        ("json:Mine-v0", "and importing json registered no Mine-v0"),
    ],
)
def test_an_unknown_or_unsuited_task_is_named_with_near_ones(task: str, message: str) -> None:
    settings = settings_of(task)

    def checks() -> None:
        settings.check()
        settings.check_machine()

    with pytest.raises(ConfigError, match=message):
        checks()


@pytest.mark.parametrize("package", ["dm_control", "gymnasium", "torchrl"])
def test_a_missing_package_names_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks.check_task.cache_clear()
    monkeypatch.setattr(
        tasks, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    task = "Pendulum-v1" if package == "gymnasium" else "walker-walk"
    with pytest.raises(ConfigError, match=rf"{package}: pip install 'pmpo-suite\[control\]'"):
        settings_of(task).check_machine()


@pytest.mark.parametrize(
    ("stream", "where"),
    [
        (Control.training_stream[0], "the observation"),
        (Control.evaluation_stream[0], "in an evaluation, the observation"),
    ],
)
def test_an_observation_that_is_not_finite_fails_the_run_with_its_step(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, stream: int, where: str
) -> None:
    honest = Environments.vectors

    def poisoned(self: Environments, found: object) -> Tensor:
        if self.env.stream[0] == stream and self.steps == 37:
            found["velocity"] = found["velocity"] * float("nan")  # type: ignore[index]
        return honest(self, found)  # type: ignore[arg-type]

    monkeypatch.setattr(Environments, "vectors", poisoned)
    config = tiny("control", "domain.updates_per_env_step=0.25")
    with pytest.raises(UnusableObservation, match=rf"^{where} at environment step 37 is not"):
        train(config)
    assert f"{where} at environment step 37" in RunFolder.of(config).summary()["error"]
