"""Several processes train a run to the parameters of a single process, also after a kill."""

import os
import signal
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from suite.config.fields import ConfigError
from suite.config.loading import load
from suite.runs.folder import RunFolder
from suite.system import distributed
from suite.train import train
from tests import processes
from tests.conftest import BASE, ROOT, SCHEDULE, TINY, Tiny


def config_with(*overrides: str) -> None:
    load(ROOT / BASE["bandit"], list(overrides))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["domain.contexts=9"], "domain.contexts must be a multiple of the 4 ranks .*, found 9"),
        (["trainer.strategy=fsdp"], "trainer.strategy must be ddp where .*domain.name=bandit"),
        (["trainer.devices=0"], "trainer.devices must be at least 1, found 0"),
    ],
)
def test_settings_that_ranks_cannot_share_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_with("trainer.devices=2", "trainer.num_nodes=2", *overrides)


def test_devices_and_strategy_do_not_change_the_signature() -> None:
    one, four = (
        load(ROOT / BASE["lm"], [f"trainer.devices={n}", f"trainer.strategy={strategy}"])
        for n, strategy in ((1, "ddp"), (4, "fsdp"))
    )
    assert one.signature == four.signature


def test_too_few_processes_are_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"trainer.devices=2 .* need 2 processes, found 1"):
        train(tiny("bandit", "trainer.devices=2"))


def test_a_single_process_gets_all_items() -> None:
    items = torch.arange(5)
    assert torch.equal(distributed.local_slice(items), items)
    assert (distributed.world_size(), distributed.rank(), distributed.mean_over_ranks(0.25)) == (
        1,
        0,
        0.25,
    )
    assert distributed.any_rank(True)
    assert not distributed.any_rank(False)
    assert distributed.broadcast("word") == "word"


def arguments(domain: str, folder: Path, *overrides: str) -> list[str]:
    steps = ["trainer.steps=40", "trainer.eval_every=10", "trainer.checkpoint_every=5"]
    fixed = [*TINY[domain], *SCHEDULE, *steps, "optimizer.clip_norm=1.0"]
    results = f"results_dir={folder}"
    return ["train", BASE[domain], *fixed, *overrides, results]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    path = next(folder.glob("*/runs/*/checkpoints/last.ckpt"))
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("domain", "strategy"), [("control", "ddp"), ("lm", "fsdp"), ("rows", "fsdp")]
)
def test_two_ranks_compute_what_one_computes_also_after_a_kill(
    domain: str, strategy: str, tmp_path: Path
) -> None:
    two = ("trainer.devices=2", f"trainer.strategy={strategy}", "trainer.accelerator=cpu")
    follow = ("reference.update=average", "reference.rate=0.1", *two[2:])
    for name, extra in (("one", ()), ("two", two)):
        code, output = processes.suite(*arguments(domain, tmp_path / name, *follow, *extra))
        assert code == 0, output
        assert output.count("finished: ") == 1, "rank 0 alone prints"
    by_one, by_two = weights(tmp_path / "one"), weights(tmp_path / "two")
    torch.testing.assert_close(by_two, by_one, rtol=1e-3, atol=1e-4)

    process = processes.start(arguments(domain, tmp_path / "torn", *follow, *two))
    ready = "*/runs/*/checkpoints/previous.ckpt"
    processes.wait_until(lambda: any((tmp_path / "torn").glob(ready)), process)
    run = RunFolder(next((tmp_path / "torn").glob("*/runs/*")))
    os.kill(run.progress()["pid"], signal.SIGKILL)  # rank 0; torchrun then ends the other
    process.communicate()
    assert run.state() == "interrupted"
    code, output = processes.suite(*arguments(domain, tmp_path / "torn", *follow, *two))
    assert code == 0, output
    assert " continues from step " in output
    resumed = weights(tmp_path / "torn")
    assert all(torch.equal(resumed[name], value) for name, value in by_two.items())
    whole = next((tmp_path / "two").glob("*/runs/*"))
    assert run.metrics() == RunFolder(whole).metrics()
    if domain != "control":
        AutoModelForCausalLM.from_pretrained(run.path / "policy", local_files_only=True)
