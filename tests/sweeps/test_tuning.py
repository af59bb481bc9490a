"""Grids with tuned keys: how they are expanded, and their mistakes."""

from pathlib import Path

import pytest

from suite.config.fields import ConfigError
from suite.sweeps.spec import load_sweep, read_sweep_file, resized
from tests.sweeps.tuned import DPO, MODES, tuned_sweep


def test_every_candidate_has_tuning_runs_and_runs_to_be_reported(tmp_path: Path) -> None:
    more = "tune: {seed: [100, 101], set: {trainer.steps: 7}}\nset: {trainer.steps: 50}\n"
    grids = f"{{dpo: {{{DPO}, domain.function: [sphere, schwefel]}}, modes: {{{MODES}}}}}"
    sweep = tuned_sweep(tmp_path, grids, more)
    assert [(v.grid, v.point["domain.function"]) for v in sweep.tuned] == [
        ("dpo", "sphere"), ("dpo", "schwefel"),
    ]  # fmt: skip
    for variant in sweep.tuned:
        assert [tuple(c.values.values()) for c in variant.candidates] == [
            (beta, lr) for beta in (0.1, 1, 10) for lr in (0.001, 0.002)
        ]
        for candidate in variant.candidates:
            stages = ((candidate.tuning, [100, 101], 7), (candidate.reported, [0, 1], 50))
            for runs, seeds, steps in stages:
                assert [config.seed for config in runs.values()] == seeds
                for name, config in runs.items():
                    assert name == config.run_name
                    assert config.trainer.steps == steps
                    assert config.domain.function == variant.point["domain.function"]
                    values = (config.objective.beta, config.optimizer.lr)
                    assert values == tuple(candidate.values.values())
    assert sweep.grids["dpo"] == [], "known when values are chosen"
    assert len(sweep.grids["modes"]) == len(sweep.points) == 4
    assert sweep.axes["dpo"] == ["objective.name", "seed", "domain.function"]
    assert len(sweep.tuning_points) == 2 * 6 * 2


def test_a_size_cuts_the_tuning_grid(tmp_path: Path) -> None:
    more = "tune: {seed: [100, 101], set: {trainer.steps: 70}}\n"
    tuned_sweep(tmp_path, more=more)
    content = read_sweep_file(tmp_path / "mine.yaml")
    size = {"objective.beta": [1, 10], "seed": [0], "tune.seed": [100], "trainer.steps": 5}
    small = resized(content, size)
    assert small.tuned["dpo"] == {"objective.beta": [1, 10], "optimizer.lr": [0.001, 0.002]}
    assert small.tune is not None
    assert (small.tune.seed, small.tune.set) == ([100], {"trainer.steps": 5})
    assert small.set == {"trainer.steps": 5}
    assert resized(content, {}) == content
    sweep = load_sweep(tmp_path / "mine.yaml", size=size | {"optimizer.lr": [0.004]})
    assert len(sweep.tuning_points) == 2
    assert {config.optimizer.lr for config in sweep.tuning_points.values()} == {0.004}
    assert {config.trainer.steps for config in sweep.tuning_points.values()} == {5}


TUNED = "{a: {seed: [0], tune: {objective.beta: [1, 2]}}}"


@pytest.mark.parametrize(
    ("grids", "more", "message"),
    [
        ("{a: {seed: [0], tune: [1]}}", "", r"grids\.a\.tune must map keys to values, .* \[1\]"),
        ("{a: {seed: [0], tune: {}}}", "", r"grids\.a\.tune must map keys to values, .* \{\}"),
        (
            "{a: {seed: [0], tune: {objective.beta: 3}}}",
            "",
            r"grids\.a\.tune\.objective\.beta must be a list of one value or more, found 3",
        ),
        (
            "{a: {seed: [0], tune: {objective.beta: []}}}",
            "",
            r"grids\.a\.tune\.objective\.beta must be a list of one value or more, found \[\]",
        ),
        (
            "{a: {seed: [0], tune: {feedback: [mixed]}}}",
            "",
            r"grids\.a\.tune must hold keys other than .*feedback.*; found feedback",
        ),
        ("{a: {seed: [0], tune: {objective.name: [dpo]}}}", "", "found objective.name"),
        ("{a: {tune: {objective.beta: [1]}}}", "", r"grids\.a must have the axis seed"),
        (
            "{a: {seed: [0], objective.beta: [1], tune: {objective.beta: [2]}}}",
            "",
            r"grids\.a\.objective\.beta must be an axis or be tuned; found both \[1\] and tune",
        ),
        (
            "{a: {seed: [0], tune: {objective.bta: [1]}}}",
            "",
            r"grids\.a \(tuning runs\): .*unknown key objective\.bta; did you mean",
        ),
        ("{a: {seed: [0], tune: {objective.beta: [x]}}}", "", r"mine\.yaml: grids\.a .*'x'"),
        (
            "{a: {seed: [0], tune: {objective.beta: [1, 1]}}}",
            "",
            r"grids\.a .*two points are the same run",
        ),
        ("{a: {seed: [0, 100], tune: {objective.beta: [1]}}}", "", r"tune\.seed .*, found 100"),
        (
            "{a: {seed: [0], tune: {objective.beta: [1]}}, b: {seed: [101]}}",
            "",
            r"tune\.seed must hold none of the reported runs' seeds \(0, 101\), found 101",
        ),
        (TUNED, "tune: [1]", r"tune must map seed, set, keys, found \[1\]"),
        (TUNED, "tune: {seeds: [1]}", r"unknown key tune\.seeds; tune has seed, set"),
        (TUNED, "tune: {seed: 4}", r"tune\.seed must be a list of seeds, found 4"),
        (TUNED, "tune: {}", r"tune\.seed must be a list of seeds, found None"),
        (TUNED, "tune: {seed: [9], set: 3}", r"tune\.set must map keys to values, found 3"),
        (TUNED, "tune: {seed: [9], set: {sweep: b}}", r"tune\.set\.sweep is not allowed"),
        (
            TUNED,
            "tune: {seed: [9], set: {objective.beta: 3}}",
            r"objective\.beta is an axis and is also set by 'objective\.beta=3'",
        ),
        (TUNED, "tune: {seed: [9], set: {nothing: 3}}", "unknown key nothing"),
        (TUNED, "set: {objective.beta: 3}", "objective.beta is an axis and is also set"),
        (TUNED, "report: {beta_grid: a}", r"beta_grid must name a grid that tunes nothing"),
        (TUNED, "tune: {seed: [9], keys: [1]}", r"tune\.keys must map keys to lists, found \[1\]"),
        (
            TUNED,
            "tune: {seed: [9], keys: {seed: [3]}}",
            r"grids\.a\.tune must hold keys other than .*found seed",
        ),
        ("{a: {seed: [0]}}", "", r"tune needs a grid with keys to tune, .*; found none"),
        (
            TUNED,
            "tuned: {a: {}}",
            "unknown key tuned; a sweep has config, grids, report, set, tune",
        ),
    ],
)
def test_an_error_in_a_tuned_grid_is_named(
    grids: str, more: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        tuned_sweep(tmp_path, grids, more)
    assert str(caught.value).startswith(str(tmp_path / "mine.yaml"))


def test_tuned_grids_need_the_seeds_of_their_tuning_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tune is required, .*, since grids\.a has keys to tune"):
        tuned_sweep(tmp_path, TUNED, "# no tune: here\n")


def test_the_command_line_sets_nothing_that_differs_between_the_stages(tmp_path: Path) -> None:
    tuned_sweep(tmp_path, TUNED, "tune: {seed: [9], set: {trainer.steps: 3}}\n")
    with pytest.raises(ConfigError, match=r"tune\.set\.trainer\.steps is also set by 'trainer\.st"):
        load_sweep(tmp_path / "mine.yaml", ["trainer.steps=4"])


def test_keys_tuned_everywhere_and_grids_of_a_shared_file(tmp_path: Path) -> None:
    apart = tuned_sweep(
        tmp_path,
        "{a: {objective.name: [dpo], seed: [0], tune: {objective.beta: [1, 2],"
        " optimizer.lr: [0.1, 0.2]}}, b: {seed: [0], tune: {optimizer.lr: [0.1, 0.2]}},"
        " c: {feedback: [negative], seed: [0]}}",
    )
    grids = (
        "{a: {objective.name: [dpo], seed: [0], tune: {objective.beta: [1, 2]}},"
        " b: {seed: [0], tune: {}}, c: {feedback: [negative], seed: [0]}}"
    )
    common = "tune: {seed: [100, 101], keys: {optimizer.lr: [0.1, 0.2]}}\n"
    together = tuned_sweep(tmp_path, grids, common)
    (tmp_path / "grids.yaml").write_text(grids)
    shared = tuned_sweep(tmp_path, "grids.yaml", common)
    for sweep in (together, shared):
        assert sweep.tuned == apart.tuned
        assert sweep.grids == apart.grids
        assert list(sweep.points) == list(apart.points)
