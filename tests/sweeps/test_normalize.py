"""Scores that count as 0 and 1: one pair for all tasks, or a pair for each."""

from pathlib import Path

import pytest

from suite.config.fields import ConfigError
from suite.sweeps.spec import Sweep, load_sweep
from tests.conftest import ROOT


def sweep(folder: Path, normalize: str) -> Sweep:
    path = folder / "mine.yaml"
    path.write_text(
        f"config: {ROOT}/configs/bandit/sphere.yaml\n"
        "grids: {a: {domain.function: [sphere, schwefel], seed: [0, 1]}}\n"
        f"report: {{normalize: {normalize}}}\n"
    )
    return load_sweep(path, [f"results_dir={folder}/results"])


def test_a_pair_for_all_tasks_and_a_pair_for_each_are_taken(tmp_path: Path) -> None:
    assert sweep(tmp_path, "[0, 2.5]").report.bounds("sphere-10d") == (0, 2.5)
    report = sweep(tmp_path, "{sphere-10d: [-10, 0], schwefel-10d: [-5e3, 1]}").report
    assert report.bounds("sphere-10d") == (-10, 0)
    assert report.bounds("schwefel-10d") == (-5000, 1)
    assert not sweep(tmp_path, "[]").report.normalize


def test_a_task_without_a_pair_is_named_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"lacks the task schwefel-10d; it has sphere-10d, shpere"
    ):
        sweep(tmp_path, "{sphere-10d: [0, 1], shpere: [0, 1]}")


@pytest.mark.parametrize(
    "pair", ["[1, 1]", "[2, 1]", "[0]", "[0, 1, 2]", "5", "word", "[a, b]", "[0, .inf]",
             "[.nan, 1]", "[true, 2]", "[[0, 1], [0, 1]]", "{}"]
)  # fmt: skip
def test_what_is_no_rising_pair_is_refused_in_a_sentence(tmp_path: Path, pair: str) -> None:
    with pytest.raises(ConfigError, match=r"report\.normalize.* must be two rising scores"):
        sweep(tmp_path, pair)
    with pytest.raises(ConfigError, match=r"report\.normalize\.sphere-10d must be two rising"):
        sweep(tmp_path, f"{{schwefel-10d: [0, 1], sphere-10d: {pair}}}")
