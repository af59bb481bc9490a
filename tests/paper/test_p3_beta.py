"""The verdict on β, and which runs it is made from."""

import pytest

from suite.paper.claims import load_claims, sweeps_of
from suite.paper.p3_beta import PAIRS, bandit_map, judge, pair_curve
from suite.paper.records import SweepRecords
from suite.report.records import RunRecord
from tests.paper.made_records import GOOD, WRONG, betas_and_pairs, run


@pytest.mark.parametrize(
    ("records", "word", "part"),
    [
        (betas_and_pairs(GOOD), "holds", "overlap at 3 of 3"),
        (betas_and_pairs(GOOD, apart=9.0), "holds in part", "overlap at 2 of 3"),
        (
            betas_and_pairs(GOOD, control=0.5),
            "holds in part",
            "stable on sphere-10d, but not on pole; 4 of 4",
        ),
        (betas_and_pairs(WRONG), "holds in part", "5 of 6 thresholds"),
    ],
)
def test_the_verdict_follows_from_the_records(records: SweepRecords, word: str, part: str) -> None:
    verdict = judge(records)
    assert verdict.word == word, verdict.sentence
    assert part in f"{verdict.sentence} {verdict.details}"


@pytest.fixture
def large() -> list[RunRecord]:
    """Records of `bandit_beta` at its large size, where both kinds of grid have all ten seeds.

    With α = ½ and β = 1 one of the later seeds ends below its start.
    """
    (claim,) = load_claims(["P3"])
    sweep = sweeps_of(claim, "large", [])["bandit_beta"]
    records = []
    for name, config in sweep.points.items():
        alpha, beta = config.objective.alpha, config.objective.beta
        unstable = (alpha, beta, config.seed) == (0.5, 1.0, 7)
        grids = [grid for grid, names in sweep.grids.items() if name in names]
        end = -90.0 if unstable or beta < 1 - alpha else -1.0
        records.append(
            run("sphere-10d", "mixed", config.seed, -50.0, -40.0, end, name=name, alpha=alpha,
                beta=float(beta), gaussian_beta=1 - alpha, grids=grids)
        )  # fmt: skip
    return records


def test_at_the_large_size_map_and_pairs_have_all_seeds(large: list[RunRecord]) -> None:
    assert len(large) == 5 * 5 * 10, "a run that two grids name is one run"
    curves = bandit_map(large)
    assert [[len(point.scores) for point in row.points] for row in curves] == [[10] * 5] * 5
    for grid in PAIRS:
        steps, values = pair_curve(large, grid)
        assert steps.tolist() == [0, 10, 20]
        assert values.shape == (10, 3)


def test_a_late_seed_that_collapses_counts_in_the_map(large: list[RunRecord]) -> None:
    # Seeds from 5 on were once taken for those of the pairs, and were left out of the map.
    (half,) = [row for row in bandit_map(large) if row.alpha == 0.5]
    assert [point.stable for point in half.points] == [False, True, False, True, True]
    assert half.measured == 1.5
    early = bandit_map([record for record in large if record.seed < 5])
    assert [row.measured for row in early if row.alpha == 0.5] == [0.5]
