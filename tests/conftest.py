"""Small configurations that every test file can use."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from suite.config.contracts import DomainParts
from suite.config.loading import load
from suite.config.schema import Config
from suite.feedback.label_noise import LabelNoise

ROOT = Path(__file__).parents[1]
# A reference in two seconds: one digit, one narrow block, a few accidental hits suffice.
TINY_LM = [
    "domain.digits=1",
    "domain.prompts=4",
    "domain.eval_prompts=8",
    "domain.share_prompts=8",
    "domain.model.hidden_size=16",
    "domain.model.layers=1",
    "domain.model.heads=2",
    "domain.pretrain.target_accuracy=0.02",
    "domain.pretrain.batch_size=32",
    "domain.pretrain.check_every=10",
]
# Episodes of twenty steps, so that several end within a test.
TINY_CONTROL = [
    "domain.episode_length=20",
    "domain.batch_size=8",
    "domain.warmup=30",
    "domain.acting_steps=4",
    "domain.eval_episodes=2",
    "domain.actor.hidden_size=16",
    "domain.critic_network.hidden_size=16",
    "domain.replay_size=1000",
    "trainer.steps_per_call=1",
]
# A hundred steps of the same, recorded; half of the episodes are made out to be successful.
TINY_OFFLINE = [key for key in TINY_CONTROL if "acting" not in key and "replay" not in key]
TINY_OFFLINE = [key.replace("domain.warmup", "domain.recording.warmup") for key in TINY_OFFLINE]
TINY_OFFLINE += [
    "domain.recording.steps=200",
    "domain.recording.share=0.5",
    "domain.recording.batch_size=4",
    "domain.recording.network.hidden_size=16",
]
# The same model, and its completions as rows.
TINY_ROWS = ["domain.batch_size=4", "domain.eval_rows=8", "domain.builtin.prompts=32"]
TINY_ROWS += ["domain.builtin.samples=16"]  # or hardly any would be right
TINY_ROWS += [
    key.replace("domain.", "domain.builtin.", 1)
    for key in TINY_LM
    if key.startswith(("domain.digits", "domain.model", "domain.pretrain"))
]
TINY = {"bandit": ["domain.dimensions=3", "domain.contexts=4"], "lm": TINY_LM}
TINY |= {"control": TINY_CONTROL, "rows": TINY_ROWS, "offline": TINY_OFFLINE}
TINY |= {"archive": ["domain.dimensions=3", "domain.points=32", "domain.batch_size=8"]}
BASE = {
    "bandit": "configs/bandit/sphere.yaml",
    "archive": "configs/archive/sphere.yaml",
    "control": "configs/control/cartpole-swingup.yaml",
    "offline": "configs/offline/cartpole-swingup.yaml",
    "lm": "configs/lm/arithmetic.yaml",
    "rows": "configs/lm/rows.yaml",
}
SCHEDULE = [
    "trainer.steps=12",
    "trainer.eval_every=4",
    "trainer.checkpoint_every=3",
    "trainer.log_every=2",
]

Tiny = Callable[..., Config]


def pytest_configure() -> None:
    """Limit oneDNN's instructions, which it chooses at its first use, and take SIGHUP as it comes.

    Some virtual machines announce AMX and then trap its instructions. A parent such as nohup may
    have SIGHUP ignored, which the suite respects, and tests of that signal would fail.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")


def parts_of(label_noise: LabelNoise, seed: int, cache: Path | None) -> DomainParts:
    """What a run gives to its domain, on the CPU."""
    return DomainParts(label_noise, "forward", seed, cache or Path(), torch.device("cpu"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first: short files at the end keep all processes busy."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of the whole session, so that the tiny reference is trained once."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture
def tiny(shared_results: Path, request: pytest.FixtureRequest) -> Tiny:
    """Load a domain's configuration, cut down; each test's runs go to a sweep of its own."""

    def make(domain: str, *overrides: str, results: Path | None = None) -> Config:
        name = "".join(c if c.isalnum() else "-" for c in request.node.name)
        fixed = [f"results_dir={results or shared_results}", f"sweep={name}"]
        return load(ROOT / BASE[domain], [*TINY[domain], *SCHEDULE, *fixed, *overrides])

    return make
