"""Sweeps with tuned grids whose runs end as told, without training."""

from collections.abc import Callable, Iterable
from pathlib import Path

from suite.config.schema import Config
from suite.runs.folder import RunFolder
from suite.sweeps.spec import Sweep, load_sweep
from suite.system.files import write_json
from suite.system.json_text import json_text
from tests.conftest import ROOT

DPO = (
    "objective.name: [dpo], seed: [0, 1],"
    " tune: {objective.beta: [0.1, 1, 10], optimizer.lr: [0.001, 0.002]}"
)
MODES = "feedback: [positive, mixed], seed: [0, 1]"


def tuned_sweep(
    folder: Path, grids: str = f"{{dpo: {{{DPO}}}}}", more: str = "", seeds: str = "[100, 101]"
) -> Sweep:
    """Read a sweep file; its results go to a folder beside it."""
    path = folder / "mine.yaml"
    base = ROOT / "configs/bandit/sphere.yaml"
    tune = "" if "tune" in more else f"tune: {{seed: {seeds}}}\n"
    path.write_text(f"config: {base}\n{tune}grids: {grids}\n{more}")
    return load_sweep(path, [f"results_dir={folder}/results"])


def end_runs(configs: Iterable[Config], score: Callable[[Config], float | None]) -> None:
    """End runs with the scores that a function gives them; without a score a run fails."""
    for config in configs:
        folder, final = RunFolder.of(config).path, score(config)
        folder.mkdir(parents=True, exist_ok=True)
        rows = [{"step": 0, "eval/score": 0.0}, {"step": 10, "eval/score": final or 0.0}]
        metrics = "".join(f"{json_text(row)}\n" for row in rows)
        (folder / "metrics.jsonl").write_text(metrics)
        status = "failed" if final is None else "finished"
        summary = {"status": status, "step": 10, "start_score": 0.0, "score": final}
        write_json(folder / "summary.json", summary)


def best_at(beta: float, lr: float) -> Callable[[Config], float]:
    """Return scores whose mean over seeds is best at given values."""

    def score(config: Config) -> float:
        away = abs(config.objective.beta - beta) + 100 * abs(config.optimizer.lr - lr)
        return (config.seed % 2) - away

    return score
