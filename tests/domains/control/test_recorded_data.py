"""Recorded data of other people: episodes without their ends, other units, odd columns, links."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from suite.config.fields import ConfigError
from suite.domains.control.episodes import Episode, TaskBounds, read, transitions
from suite.feedback.label_noise import LabelNoise
from tests.conftest import Tiny, parts_of

LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32)
LIMIT = 7


def bounds(steps: int | None = LIMIT) -> TaskBounds:
    return TaskBounds(LOW, HIGH, steps)


def columns(lengths: list[int], seed: int = 0) -> dict[str, Any]:
    """Return a file's columns: episodes that walk on by small steps, and begin anew elsewhere."""
    draw = np.random.default_rng(seed)
    walks = [draw.normal(0, 50, (1, 3)) + draw.normal(0, 1, (n + 1, 3)).cumsum(0) for n in lengths]
    ends = np.concatenate([np.arange(n) == n - 1 for n in lengths])
    count = sum(lengths)
    return {
        "observations": np.concatenate([w[:-1] for w in walks]).astype("f4"),
        "next_observations": np.concatenate([w[1:] for w in walks]).astype("f4"),
        "actions": draw.uniform(LOW, HIGH, (count, 2)).astype("f4"),
        "rewards": draw.uniform(size=count).astype("f4"),
        "terminals": np.zeros(count, bool),
        "timeouts": ends,
    }


def write(path: Path, values: dict[str, Any]) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in values.items():
            if value is not None:
                file[name] = value
    return path


def lengths_of(episodes: list[Episode]) -> list[int]:
    return [len(e.rewards) for e in episodes]


@pytest.mark.parametrize("seed", range(5))
def test_episodes_without_any_flag_end_where_another_observation_follows(
    tmp_path: Path, seed: int
) -> None:
    lengths = np.random.default_rng(seed).integers(1, LIMIT + 1, 9).tolist()
    values = columns(lengths, seed)
    whole = read(write(tmp_path / "whole.hdf5", values), bounds())
    found = read(write(tmp_path / "old.hdf5", values | {"timeouts": None}), bounds())
    assert lengths_of(found) == lengths_of(whole) == lengths
    for ours, theirs in zip(found, whole, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("flags", [None, "timeouts"])
def test_no_target_reaches_over_a_reset_at_the_tasks_limit(
    tmp_path: Path, flags: str | None
) -> None:
    values = columns([LIMIT, LIMIT, LIMIT])
    unmarked = {"next_observations": None, "timeouts": None}
    if flags:
        unmarked["timeouts"] = np.zeros(3 * LIMIT, bool)
    found = read(write(tmp_path / "old.hdf5", values | unmarked), bounds())
    assert lengths_of(found) == 3 * [LIMIT - 1]  # the last observation of each is not in the file
    reward = transitions(found, n_step=5, discount=1.0).reward.numpy().reshape(3, LIMIT - 1)
    recorded = values["rewards"].reshape(3, LIMIT)[:, :-1]
    assert np.allclose(reward[:, 0], recorded[:, :5].sum(1))
    assert np.allclose(reward[:, -1], recorded[:, -1])  # nothing of the next episode


def test_a_file_whose_episodes_cannot_be_told_apart_is_refused(tmp_path: Path) -> None:
    values = columns([20]) | {"next_observations": None, "timeouts": None}
    path = write(tmp_path / "old.hdf5", values)
    with pytest.raises(ConfigError, match=r"old\.hdf5: its episodes cannot be told apart"):
        read(path, bounds(None))
    assert lengths_of(read(path, bounds(20))) == [19]


def test_actions_in_the_environments_units_are_scaled_by_its_bounds(tmp_path: Path) -> None:
    values = columns([5])
    values["actions"][:2] = [LOW, HIGH + 1e-5]
    (found,) = read(write(tmp_path / "torques.hdf5", values), bounds())
    assert np.array_equal(found.actions[:2], [[-1, -1], [1, 1]])  # rounding is clipped
    expected = (values["actions"] - [0, 5]) / [2, 5]
    assert np.allclose(found.actions, expected.clip(-1, 1), atol=1e-6)
    values["actions"][3, 1] = 15.0
    with pytest.raises(ConfigError, match=r"episode 0: actions must lie .* found 2 times as far"):
        read(write(tmp_path / "far.hdf5", values), bounds())


@pytest.mark.parametrize(
    "change",
    [
        lambda v: {n: v[n][:, None] for n in ("rewards", "terminals", "timeouts")},
        lambda v: {n: v[n].astype("u1") for n in ("terminals", "timeouts")},
        lambda v: {n: v[n].astype("f8") for n in v},
        lambda v: {"observations": v["observations"][:, :, None]},
    ],
    ids=["columns of one", "bytes", "doubles", "a further axis"],
)
def test_the_same_numbers_in_other_shapes_and_types_are_the_same_episodes(
    tmp_path: Path, change: Any
) -> None:
    values = columns([4, 6], seed=3)
    plain = read(write(tmp_path / "plain.hdf5", values), bounds())
    changed = values | change(values)
    if changed["observations"].ndim == 3:
        changed["next_observations"] = changed["next_observations"][:, :, None]
    other = read(write(tmp_path / "other.hdf5", changed), bounds())
    for ours, theirs in zip(plain, other, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rewards", np.ones((10, 2)), r"rewards: must be one number per step, found shape"),
        ("rewards", np.ones(9), r"must have one length, found observations 10, .* rewards 9"),
        ("rewards", 3.0, r"rewards: must be one number per step"),
        ("observations", np.full((10, 3), np.inf), r"observations: must be finite .* at step 0"),
        ("actions", np.full((10, 2), 1e300), r"actions: must be finite numbers, found inf"),
        ("actions", np.ones((10, 3)), r"task has actions of 2 numbers, the recorded ones have 3"),
        ("terminals", np.full(10, 0.5), r"terminals: must be true or false, or 1 or 0, found 0\.5"),
        ("rewards", np.array([b"x"] * 10), r"rewards: must hold numbers, found"),
        ("next_observations", np.ones((10, 2)), r"must have the shape of observations \(10, 3\)"),
    ],
)
def test_odd_columns_are_refused_by_name(
    tmp_path: Path, name: str, value: Any, message: str
) -> None:
    path = write(tmp_path / "odd.hdf5", columns([4, 6]) | {name: value})
    with pytest.raises(ConfigError, match=message) as refusal:
        read(path, bounds())
    assert "odd.hdf5" in str(refusal.value)


def linked(path: Path, kind: str) -> None:
    """Put the rewards of a file elsewhere."""
    with h5py.File(path, "a") as file:
        rewards = file["rewards"][:]
        del file["rewards"]
        if kind == "external link":
            write(path.parent / "other.hdf5", {"rewards": rewards})
            file["rewards"] = h5py.ExternalLink("other.hdf5", "/rewards")
        elif kind == "soft link":
            file["rewards"] = h5py.SoftLink("/observations")
        elif kind == "external storage":
            raw = path.parent / "raw.bin"
            rewards.tofile(raw)
            place = [(str(raw), 0, rewards.nbytes)]
            file.create_dataset("rewards", rewards.shape, rewards.dtype, external=place)
        else:
            source = write(path.parent / "other.hdf5", {"rewards": rewards})
            layout = h5py.VirtualLayout(rewards.shape, rewards.dtype)
            layout[:] = h5py.VirtualSource(source, "rewards", rewards.shape)
            file.create_virtual_dataset("rewards", layout)


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual"])
def test_what_leads_out_of_a_file_is_not_followed(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "a.hdf5", columns([4, 6]))
    linked(path, kind)
    with pytest.raises(ConfigError, match=r"a\.hdf5: /rewards: .*(not followed|not read)"):
        read(path, bounds())


def test_a_minari_set_without_action_bounds_takes_those_of_the_task(tmp_path: Path) -> None:
    values = columns([5])
    folder = tmp_path / "set-v0"
    (folder / "data").mkdir(parents=True)
    space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    storage = MinariStorage.new(
        folder / "data",
        observation_space=space,
        action_space=gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
    )
    last = np.arange(5) == 4
    seen = np.concatenate([values["observations"], values["next_observations"][-1:]])
    episode = EpisodeBuffer(
        id=0,
        observations=seen,
        actions=values["actions"],
        rewards=values["rewards"],
        terminations=last,
        truncations=last & False,
    )
    storage.update_episodes([episode])
    storage.update_metadata({"dataset_id": "set-v0", "minari_version": "0.5.3"})
    (found,) = read(folder, bounds())
    assert np.allclose(found.actions, (values["actions"] - [0, 5]) / [2, 5], atol=1e-6)
    assert found.terminated


class Slider(gym.Env):  # type: ignore[type-arg]
    """A point that moves along a line; its episodes end after a time of its own."""

    observation_space = gym.spaces.Box(-2, 2, (1,), np.float32)
    action_space = gym.spaces.Box(-3, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.at, self.time = self.np_random.uniform(-1, 1, 1).astype("f4"), 0
        return self.at.copy(), {}

    def step(self, action: Any) -> Any:
        self.at = np.clip(self.at + 0.1 * action, -2, 2).astype("f4")
        self.time += 1
        return self.at.copy(), float(1 - abs(self.at[0])), False, self.time >= 20, {}


gym.register("SuiteSlider-v0", entry_point=f"{__name__}:Slider")
OWN = f"{__name__}:SuiteSlider-v0"
NETWORKS = ("domain.actor.hidden_size=16", "domain.critic_network.hidden_size=16")


def test_an_environment_that_a_module_registers_is_learned_from_online_and_offline(
    tiny: Tiny, tmp_path: Path
) -> None:
    online = tiny("control", f"domain.task={OWN}", "domain.critic.head=mse", *NETWORKS)
    online.check_machine()
    domain = online.domain.build(parts_of(LabelNoise("mixed"), 0, tmp_path))
    batch = next(iter(domain.train_dataloader()))
    assert domain.feedback(batch).logp.isfinite().all()
    assert "slider" in online.run_name
    assert "/" not in online.run_name

    values = columns([5, 6])
    values |= {name: values[name][:, :1] for name in ("observations", "next_observations")}
    values["actions"] = np.linspace(-3, 1, 11)[:, None]
    path = write(tmp_path / "own.hdf5", values)
    offline = tiny(
        "offline", f"domain.task={OWN}", f"domain.path={path}", "domain.critic.head=mse", *NETWORKS
    )
    actions = offline.domain.build(parts_of(LabelNoise("mixed"), 0, tmp_path)).data.action.flatten()
    assert np.allclose(actions, np.linspace(-1, 1, 11), atol=1e-6)
