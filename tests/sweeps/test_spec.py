"""Expanding sweep files, and their mistakes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from suite.config.fields import ConfigError
from suite.config.loading import load
from suite.sweeps.grids import with_dotted_values
from suite.sweeps.spec import Sweep, load_sweep
from tests.conftest import ROOT

Expand = Callable[..., Sweep]


@pytest.fixture
def expand(tmp_path: Path) -> Expand:
    def make(grids: str, more: str = "", *overrides: str) -> Sweep:
        path = tmp_path / "mine.yaml"
        base = ROOT / "configs/bandit/sphere.yaml"
        path.write_text(f"config: {base}\ngrids: {grids}\n{more}")
        return load_sweep(path, list(overrides))

    return make


@pytest.mark.parametrize("path", sorted((ROOT / "configs/sweeps").glob("*.yaml")), ids=str)
def test_every_committed_sweep_expands(path: Path) -> None:
    sweep = load_sweep(path)
    assert sweep.name == path.stem
    assert all(config.sweep == path.stem for config in sweep.points.values())


def test_the_bandit_sweep_has_the_runs_of_its_claims() -> None:
    sweep = load_sweep(ROOT / "configs/sweeps/bandit.yaml")
    sizes = {name: len(runs) for name, runs in sweep.grids.items()}
    assert sizes == {"modes": 3 * 3 * 5, "dpo": 3 * 5, "beta": 3 * 5 * 3}


def test_a_grid_is_the_product_of_its_axes_with_typed_values(expand: Expand) -> None:
    sweep = expand("{a: {objective.beta: [0, 1.5, auto], feedback: [positive, mixed]}}")
    points = {(c.feedback, c.objective.beta) for c in sweep.points.values()}
    assert points == {(f, b) for f in ("positive", "mixed") for b in (0, 1.5, "auto")}
    assert {c.logging.wandb for c in sweep.points.values()} == {"offline"}


def test_grids_that_overlap_share_runs(expand: Expand) -> None:
    sweep = expand("{a: {seed: [0, 1]}, b: {seed: [1, 2]}}")
    assert len(sweep.points) == 3
    assert sweep.grids["a"][1] == sweep.grids["b"][0]


def test_an_axis_may_choose_the_objective_and_its_keys(expand: Expand) -> None:
    sweep = expand("{a: {objective.name: [dpo], objective.pairs: [best_worst, all]}}")
    assert {c.objective.pairs for c in sweep.points.values()} == {"best_worst", "all"}


def test_values_are_checked_together_and_not_against_the_base(expand: Expand) -> None:
    sweep = expand("{a: {domain.samples: [8], domain.top: [4], domain.bottom: [4]}}")
    assert next(iter(sweep.points.values())).domain.top == 4
    with pytest.raises(ConfigError, match=r"grids\.a: \(domain\.top=3\): .* must be at most"):
        expand("{a: {domain.top: [1, 3]}}")


@pytest.mark.parametrize(
    ("grids", "more", "message"),
    [
        ("{a: {objective.bta: [1]}}", "", r"grids\.a: .*unknown key objective\.bta; did you mean"),
        ("{a: {seed: [0, one]}}", "", r"grids\.a: .*seed: Value 'one'"),
        ("{a: {seed: []}}", "", r"grids\.a: seed has no values"),
        ("{a: {seed: [1, 1]}}", "", r"two points are the same run: \(seed=1\) and \(seed=1\)"),
        (
            "{a: {feedback: [mixed], objective.alpha: [null, 0.5]}}",
            "",
            r"two points are the same run: \(feedback=mixed, objective\.alpha=null\) and",
        ),
        ("{a: {seed: [1]}}", "set: {seed: 2}", r"seed is an axis and is also set by 'seed=2'"),
        ("{a: {domain.name: [bandit]}}", "", r"domain\.name cannot vary"),
        ("{a: {seed: 3}}", "", r"mine\.yaml: grids\.a\.seed must be a list of values, found 3"),
        (
            "{a: {seed: [1]}}",
            "gird: 1",
            r"unknown key gird; a sweep has config, grids, report, set",
        ),
        ("{a: {seed: [1]}}", "report: {beta_grid: b}", r"beta_grid must name a grid \(a\), found"),
        ("{}", "", r"grids is required"),
        ("{a: {seed: [1]}}", "set: [1]", r"set must map keys to values, found \[1\]"),
        (
            "{a: {seed: [1], optimizer.lr: [1, 2]}}",
            "report: {beta_grid: a}",
            r"grids\.a\.optimizer\.lr has 2 values, but the β grid's figure tells only",
        ),
    ],
)
def test_an_error_in_a_sweep_is_named(expand: Expand, grids: str, more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        expand(grids, more)


def test_an_override_of_an_axis_is_refused(expand: Expand) -> None:
    with pytest.raises(ConfigError, match="seed is an axis and is also set by 'seed=5'"):
        expand("{a: {seed: [1]}}", "", "seed=5")


def test_a_missing_base_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("config: nowhere.yaml\ngrids: {a: {seed: [1]}}\n")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        load_sweep(path)


def test_values_of_one_nested_object_change_together() -> None:
    template = load(ROOT / "configs/control/cartpole-swingup.yaml")
    values = {"domain.actor.hidden_size": 8, "domain.actor.layers": 3, "seed": 5}
    config = with_dotted_values(template, values)
    assert (config.domain.actor.hidden_size, config.domain.actor.layers, config.seed) == (8, 3, 5)
    assert template.domain.actor.hidden_size != 8
    assert config.optimizer == template.optimizer
