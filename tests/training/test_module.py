"""The shared module: gradients over accumulation and ranks, schedules, and the reference."""

import os
import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from suite.config.fields import ConfigError
from suite.config.schema import OptimizerConfig, ReferenceConfig, TrainerConfig
from suite.domains.bandit.online import Bandit
from suite.feedback.feedback import Feedback, Shares
from suite.objectives.pmpo import pmpo
from suite.policies.reference import follow
from suite.runs.folder import RunFolder
from suite.train import train
from suite.training.module import NonFiniteLoss, learning_rate_factor
from tests.conftest import Tiny


class Scorer(nn.Module):
    """A policy over eight outcomes whose logits are linear in the context."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 8, dtype=torch.float64)

    def forward(self, part: slice) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(6, 3, generator=generator, dtype=torch.float64)[part]
        samples = torch.randint(8, (6, 4), generator=generator)[part]
        accept = (torch.rand(6, 4, generator=generator) > 0.5).double()[part]
        logp = self.linear(x).log_softmax(-1)
        kl = (0.125 * (torch.tensor(0.125).log() - logp)).sum(-1)
        feedback = Feedback(logp.gather(1, samples), kl, accept, 1 - accept)
        shares = Shares(0.5, 0.5)
        by_context = pmpo(feedback, alpha=0.3, beta=1.5).loss
        return by_context + pmpo(feedback, alpha=0.3, beta=1.5, shares=shares).loss


def gradient_of_rank(rank: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", RANK=str(rank), WORLD_SIZE="2")
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    model = DistributedDataParallel(Scorer())
    model(slice(3 * rank, 3 * rank + 3)).backward()
    torch.save(model.module.linear.weight.grad, f"{folder}/rank{rank}.pt")
    torch.distributed.barrier()  # a rank that leaves early may make the other wait for ever
    os._exit(0)  # the destructors of gloo and DDP may hang here


@pytest.mark.slow
def test_two_ranks_give_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    ranks = mp.spawn(gradient_of_rank, (str(tmp_path),), nprocs=2, join=False)
    deadline = time.monotonic() + 120
    while not ranks.join(timeout=5):
        assert time.monotonic() < deadline, "a rank hangs"
    whole = Scorer()
    whole(slice(0, 6)).backward()
    for rank in (0, 1):
        gradient = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        torch.testing.assert_close(gradient, whole.linear.weight.grad, atol=1e-14, rtol=0)


def test_an_accumulated_step_logs_terms_that_sum_to_its_loss(tiny: Tiny) -> None:
    config = tiny("bandit", "trainer.accumulate=3", "trainer.steps=4", "trainer.log_every=1")
    train(config)
    rows = RunFolder.of(config).metrics()
    rows = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        parts = [row[f"train/{part}"] for part in ("accepted", "rejected", "anchor")]
        assert row["train/loss"] == pytest.approx(sum(parts), abs=1e-4)


@pytest.mark.parametrize(("step", "factor"), [(0, 0.25 * 1.0), (1, 0.5 * 0.9), (3, 0.7), (9, 0.1)])
def test_the_learning_rate_warms_up_and_decays(step: int, factor: float) -> None:
    settings = OptimizerConfig(warmup=3, decay="linear")
    assert learning_rate_factor(settings, step, steps=10) == pytest.approx(factor)


def test_each_step_is_taken_at_its_learning_rate_also_after_a_resume(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [
        "optimizer={lr: 0.1, warmup: 1, decay: linear}",
        "objective={name: mpo, dual_lr: 0.01}",
    ]
    config = tiny("bandit", *settings, "trainer.steps=4", "trainer.checkpoint_every=1")
    used: list[tuple[float, float]] = []
    step = torch.optim.AdamW.step

    def recorded(optimizer: torch.optim.AdamW) -> None:
        if len(used) == 2:
            used.append((0.0, 0.0))
            raise OSError("the machine is gone")
        used.append(tuple(group["lr"] for group in optimizer.param_groups))
        step(optimizer)

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    with pytest.raises(OSError, match="gone"):
        train(config)
    train(config)
    policy, duals = zip(*used[:2], *used[3:], strict=True)
    assert policy == pytest.approx((0.05, 0.075, 0.05, 0.025))
    assert duals == pytest.approx((0.005, 0.0075, 0.005, 0.0025))


def test_the_reference_follows_as_configured() -> None:
    def after(settings: ReferenceConfig, step: int) -> float:
        policy, reference = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        nn.init.constant_(policy.weight, 8.0)
        nn.init.constant_(reference.weight, 4.0)
        follow(policy, reference, settings, step)
        return reference.weight.item()

    assert after(ReferenceConfig(update="frozen"), 50) == 4.0
    assert after(ReferenceConfig(update="copy", every=50), 49) == 4.0
    assert after(ReferenceConfig(update="copy", every=50), 50) == 8.0
    assert after(ReferenceConfig(update="average", rate=0.25), 1) == 5.0


def poison(monkeypatch: pytest.MonkeyPatch, good_batches: int, bad_batches: int = 100) -> None:
    """Make the bandit's KL NaN in `bad_batches` batches that follow `good_batches`."""
    original, calls = Bandit.feedback, iter(range(100))

    def poisoned(self: Bandit, batch: object) -> Feedback:
        feedback = original(self, batch)  # type: ignore[arg-type]
        is_good = not 0 <= next(calls) - good_batches < bad_batches
        return feedback if is_good else feedback._replace(kl=feedback.kl * float("nan"))

    monkeypatch.setattr(Bandit, "feedback", poisoned)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_term(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, good_batches=6)
    config = tiny("bandit")
    with pytest.raises(NonFiniteLoss, match="not finite at step 7: anchor is nan"):
        train(config)
    run = RunFolder.of(config)
    summary = run.summary()
    assert summary["status"] == "failed"
    assert "step 7: anchor is nan" in summary["error"]
    assert summary["step"] == 4, "the earlier measurements are kept"
    # Once the cause is removed, the same command continues from the last checkpoint, at step 6.
    monkeypatch.undo()
    assert train(config)["status"] == "finished"
    assert RunFolder.of(config).summary()["step"] == 12


def test_auxiliary_losses_are_added_and_logged(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def extra(self: Bandit, batch: object) -> dict[str, torch.Tensor]:
        return {"critic": 3 * self.policy.mean.square().sum() + 100}

    config = tiny("bandit", "trainer.log_every=1")
    monkeypatch.setattr(Bandit, "auxiliary_losses", extra, raising=False)
    train(config)
    row = next(row for row in RunFolder.of(config).metrics() if "train/loss" in row)
    parts = ("accepted", "rejected", "anchor", "critic")
    assert row["train/loss"] == pytest.approx(sum(row[f"train/{part}"] for part in parts))
    assert row["train/critic"] > 100


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside the compiler
def test_a_compiled_step_computes_the_same(tiny: Tiny) -> None:
    def losses(compiled: bool) -> list[float]:
        config = tiny("control", f"trainer.compile={str(compiled).lower()}", "trainer.log_every=1")
        train(config)
        rows = RunFolder.of(config).metrics()
        return [row["train/loss"] for row in rows if "train/loss" in row]

    eager, compiled = losses(False), losses(True)
    assert compiled == pytest.approx(eager, rel=1e-3, abs=1e-3)


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="needs a C\\+\\+ compiler"):
        TrainerConfig(compile=True).check_machine()


@pytest.mark.parametrize("domain", ["bandit", "control"])
def test_several_steps_per_call_are_the_same_steps(tiny: Tiny, domain: str) -> None:
    """Each batch is drawn after the step before it, with the reference of that moment."""
    fixed = ("reference={update: average, rate: 0.1}", "trainer.log_every=6")
    fixed += ("trainer.eval_every=6", "trainer.checkpoint_every=6")
    configs = [tiny(domain, *fixed, f"trainer.steps_per_call={n}") for n in (1, 3)]
    for config in configs:
        train(config)
    one, three = (RunFolder.of(config).metrics() for config in configs)
    assert one == three
    assert [row["step"] for row in one] == [0, 6, 6, 12, 12]


def test_a_batch_that_is_not_finite_is_found_before_the_others_of_its_step(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, good_batches=3, bad_batches=1)
    with pytest.raises(NonFiniteLoss, match="not finite at step 2: anchor is nan"):
        train(tiny("bandit", "trainer.accumulate=3"))


def test_steps_that_are_no_multiple_of_those_per_call_are_refused(tiny: Tiny) -> None:
    with pytest.raises(
        ConfigError, match=r"trainer.eval_every must be a multiple of .*=3, found 4"
    ):
        tiny("bandit", "trainer.steps_per_call=3")


def test_a_loss_that_is_not_finite_within_a_call_names_its_own_step(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, good_batches=4)
    settings = ("trainer.steps_per_call=3", "trainer.eval_every=3", "trainer.log_every=3")
    with pytest.raises(NonFiniteLoss, match="not finite at step 5: anchor is nan"):
        train(tiny("bandit", *settings))


def test_the_reference_follows_after_every_step_of_a_call(tiny: Tiny) -> None:
    """A reference that is copied every 2 steps equals the policy after 12 steps."""
    settings = ("reference.update=copy", "reference.every=2", "trainer.eval_every=3")
    settings += ("trainer.log_every=3", "trainer.steps_per_call=3")
    config = tiny("bandit", *settings)
    train(config)
    path = RunFolder.of(config).checkpoints / "last.ckpt"
    state = torch.load(path, weights_only=True)["state_dict"]
    assert torch.equal(state["policy.mean"], state["reference.mean"])
