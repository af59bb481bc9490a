"""A run that is killed, damaged or out of disk space still ends with the same numbers."""

import random
import resource
import signal
from pathlib import Path

import pytest

from suite.config.fields import ConfigError
from suite.config.schema import Config
from suite.evaluate import evaluate
from suite.runs.environment import environment
from suite.runs.folder import RunFolder
from suite.runs.lease import LeaseHeld
from suite.train import train
from tests import processes
from tests.conftest import BASE, TINY, Tiny

# Long enough for a kill in the middle, with checkpoints often enough to continue from.
LONG = {
    "bandit": ["trainer.steps=3000", "trainer.checkpoint_every=250", "trainer.log_every=10"],
    "control": ["trainer.steps=400", "trainer.checkpoint_every=50", "trainer.log_every=2"],
    "archive": ["trainer.steps=3000", "trainer.checkpoint_every=250", "trainer.log_every=10"],
    "offline": ["trainer.steps=400", "trainer.checkpoint_every=50", "trainer.log_every=2"],
    "lm": ["trainer.steps=60", "trainer.checkpoint_every=7", "trainer.log_every=1"],
    "rows": ["trainer.steps=150", "trainer.checkpoint_every=7", "trainer.log_every=1"],
}


# Labels are dropped and swapped, so that all random streams are used.
COMMON = ["trainer.eval_every=20", "labels.keep=0.6", "labels.flip=0.1"]


def command(config: Config) -> list[str]:
    """Return the arguments of `suite` that train a configuration."""
    name = config.domain.name
    folder = [f"results_dir={config.results_dir}", f"sweep={config.sweep}"]
    return ["train", BASE[name], *TINY[name], *COMMON, *LONG[name], *folder]


def reached(run: RunFolder, pid: int, step: int) -> bool:
    """Return whether this process, and no earlier one, has trained the run up to a step."""
    is_own = run.progress().get("pid") == pid and run.progress()["phase"] == "training"
    return is_own and any(row["step"] >= step for row in run.metrics())


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_killed_at_random_steps_a_run_ends_bit_identical(
    tiny: Tiny, name: str, tmp_path: Path
) -> None:
    settings = [*COMMON, *LONG[name]]
    whole = tiny(name, *settings)
    expected = train(whole)
    torn = tiny(name, *settings, results=tmp_path)
    run = RunFolder.of(torn)
    steps = whole.trainer.steps
    seed = random.randrange(10**6)
    print("seed of the kills:", seed)
    chooser = random.Random(seed)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        target = chooser.randrange(steps // 10, steps * 3 // 4)
        process = processes.start(command(torn))
        # The rows of the earlier attempt still exist: wait until this process reaches the step.
        processes.wait_until(lambda p=process.pid, t=target: reached(run, p, t), process)
        process.send_signal(number)
        code, output = processes.finish(process)
        assert code == (130 if number == signal.SIGTERM else -signal.SIGKILL), output
        assert run.state() == "interrupted"
    code, output = processes.suite(*command(torn))
    assert code == 0, output
    assert run.metrics_path.read_bytes() == RunFolder.of(whole).metrics_path.read_bytes()
    assert {**run.summary(), "seconds": 0} == {**expected, "seconds": 0}


def test_equal_seeds_give_equal_numbers(tiny: Tiny, tmp_path: Path) -> None:
    first, second = tiny("bandit"), tiny("bandit", results=tmp_path)
    train(first)
    train(second)
    numbers = [RunFolder.of(config).metrics_path.read_bytes() for config in (first, second)]
    assert numbers[0] == numbers[1]


def test_damaged_files_are_skipped_reported_and_replaced(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny("bandit")
    train(config)
    run = RunFolder.of(config)
    expected = run.metrics_path.read_bytes()
    (run.path / "summary.json").unlink()
    last = run.checkpoints / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with run.metrics_path.open("a") as file:
        file.write('{"step": 99, "eval/sc')
    caplog.set_level("INFO", logger="suite")
    train(config)
    assert run.metrics_path.read_bytes() == expected
    assert f"{last} is damaged and was passed over" in caplog.text
    assert "continues from step 9; 4 later rows of metrics were dropped" in caplog.text


@pytest.mark.slow
def test_a_run_fails_on_a_full_disk_with_a_reason_and_continues_later(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny("bandit", results=tmp_path)
    run = RunFolder.of(config)
    limit = 30_000  # bytes per file: enough for the metrics, too few for a checkpoint
    arguments = [*command(config), "domain.dimensions=3000", "trainer.steps=40"]
    arguments += ["trainer.checkpoint_every=10"]
    process = processes.start(
        arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    code, output = processes.finish(process)
    assert code == 1
    (folder,) = run.path.parent.iterdir()
    summary = RunFolder(folder).summary()
    assert summary["status"] == "failed"
    assert "File too large" in summary["error"]
    assert summary["error"] in output
    assert not list((folder / "checkpoints").iterdir())
    assert len(RunFolder(folder).metrics()) >= 1
    code, output = processes.suite(*arguments)
    assert code == 0, output
    assert RunFolder(folder).summary()["status"] == "finished"


@pytest.mark.parametrize("name", TINY)
def test_mixed_precision_trains_close_to_full_precision(tiny: Tiny, name: str) -> None:
    def losses(precision: str) -> list[float]:
        config = tiny(name, f"trainer.precision={precision}", "trainer.log_every=1")
        train(config)
        rows = RunFolder.of(config).metrics()
        return [row["train/loss"] for row in rows if "train/loss" in row]

    full, mixed = losses("32-true"), losses("bf16-mixed")
    assert len(full) == len(mixed) == 12
    assert full[:3] == pytest.approx(mixed[:3], rel=0.05, abs=0.05)
    if name == "lm":  # the bandit has no matrix product that autocast would round
        assert full != mixed


def test_a_finished_run_is_left_alone(tiny: Tiny) -> None:
    config = tiny("bandit")
    summary = train(config)
    run = RunFolder.of(config)
    before = {p: p.stat().st_mtime_ns for p in run.path.rglob("*") if p.is_file()}
    assert train(config) == summary
    assert not [p for p, t in before.items() if p.stat().st_mtime_ns != t]


def test_a_run_killed_before_its_summary_is_only_exported_and_summarised(tiny: Tiny) -> None:
    config = tiny("bandit")
    expected = train(config)
    run = RunFolder.of(config)
    metrics = run.metrics_path.read_bytes()
    (run.path / "summary.json").unlink()
    (run.path / "policy/policy.json").unlink()
    assert run.state() == "interrupted"
    assert {**train(config), "seconds": 0} == {**expected, "seconds": 0}
    assert run.metrics_path.read_bytes() == metrics
    assert (run.path / "policy/policy.json").exists()


def test_a_run_that_another_process_holds_is_refused(tiny: Tiny) -> None:
    config = tiny("bandit")
    run = RunFolder.of(config)
    run.create(config)
    with run.lease(), pytest.raises(LeaseHeld):
        train(config)


def test_the_run_folder_explains_the_run(tiny: Tiny) -> None:
    config = tiny("lm", "feedback=negative")
    summary = train(config)
    run = RunFolder.of(config)
    assert run.config() == config
    assert summary["status"] == "finished"
    assert summary["step"] == 12
    assert summary["start_score"] == run.metrics()[0]["eval/score"]
    assert summary["score"] == run.metrics()[-1]["eval/score"]
    assert environment()["packages"]["torch"].startswith("2.")
    rows = [row for row in run.metrics() if "train/loss" in row]
    assert all(row["train/accepted"] == 0 == row["train/accepted_share"] for row in rows)
    assert {"eval/greedy_score", "eval/entropy", "eval/logp_accepted"} <= run.metrics()[0].keys()


def test_evaluating_a_run_again_repeats_its_last_evaluation(tiny: Tiny) -> None:
    config = tiny("lm")
    train(config)
    run = RunFolder.of(config)
    measured = evaluate(run.path)
    expected = run.metrics()[-1]
    assert measured == {k.removeprefix("eval/"): v for k, v in expected.items()}


def test_evaluating_a_folder_without_a_trained_run_is_refused(tmp_path: Path, tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="is no run's folder; those are"):
        evaluate(tmp_path)
    config = tiny("bandit")
    RunFolder.of(config).create(config)
    with pytest.raises(ConfigError, match="holds no whole checkpoint"):
        evaluate(RunFolder.of(config).path)


def test_a_beta_below_the_bound_gives_a_warning(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    train(tiny("bandit", "feedback=negative", "objective.beta=1"))
    expected = "objective.beta=1 is below (1−α)/Z0 = 2: only a Gaussian's loss may still be bounded"
    assert expected in caplog.text
