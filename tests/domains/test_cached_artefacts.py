"""References, reward models, rows and recordings in a cache keep their names, and are used."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from suite.domains.control import recording
from suite.domains.control.offline_config import OfflineConfig
from suite.domains.language import builtin_rows, judges, pretraining
from suite.domains.language.offline_config import BuiltinConfig
from suite.domains.language.online_config import LMConfig
from suite.domains.language.tasks.arithmetic import Arithmetic

REFERENCE = "arithmetic-663bc4e1727a"
TASK = Arithmetic(digits=2)


def reference(cache: Path) -> Path:
    return pretraining.reference_folder(LMConfig(), TASK, cache / "references")


def reward_model(cache: Path) -> Path:
    return judges.reward_model_folder(LMConfig(), TASK, Mock(), Path(REFERENCE), cache)


def rows(cache: Path) -> Path:
    return builtin_rows.builtin_data(BuiltinConfig(), cache).rows


def rejected_rows(cache: Path) -> Path:
    return builtin_rows.builtin_data(BuiltinConfig(only_rejected=True), cache).rows


def recorded(cache: Path) -> Path:
    return recording.recording_folder(OfflineConfig(), cache / "recordings")


@pytest.mark.parametrize(
    ("find", "name"),
    [
        (reference, f"references/{REFERENCE}"),
        (reward_model, "rewards/arithmetic-f03a5938e667"),
        (rows, f"references/{REFERENCE}-1024x4.jsonl"),
        (rejected_rows, f"references/{REFERENCE}-1024x4-rejected.jsonl"),
        (recorded, "recordings/cartpole-swingup-1ff4cfbf424f"),
    ],
)
def test_what_an_earlier_version_cached_is_used(
    find: Callable[[Path], Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, maker in (
        (pretraining, "pretrain"),
        (judges, "learn_reward"),
        (builtin_rows, "judged_rows"),
        (recording, "record"),
    ):
        monkeypatch.setattr(module, maker, lambda *_, **__: pytest.fail("it was made again"))
    (tmp_path / "references" / REFERENCE).mkdir(parents=True)
    for kind in ("jsonl", "rejected.jsonl", "rejected.eval.jsonl"):
        separator = "-" if kind.startswith("rejected") else "."
        (tmp_path / f"references/{REFERENCE}-1024x4{separator}{kind}").write_text("")
    (tmp_path / "rewards/arithmetic-f03a5938e667").mkdir(parents=True)
    (tmp_path / "recordings/cartpole-swingup-1ff4cfbf424f").mkdir(parents=True)
    assert find(tmp_path) == tmp_path / name
