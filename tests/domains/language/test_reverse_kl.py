"""The reverse KL of a group of rows is that of its own completions."""

from pathlib import Path

import pytest
import torch

from suite.domains.language.offline import Rows
from suite.objectives.config import PMPOConfig
from suite.testing.shared import build
from tests.domains.language.models import config_of
from tests.domains.language.rows import write_rows

RAGGED = [
    {"prompt": f"is {name}?", "completions": texts, "scores": [float(i) for i in range(len(texts))]}
    for name, texts in {
        "a": [" no", " yes", " well yes", " never ever"],
        "b": [" no way"],
        "c": [" yes", " maybe so"],
        "d": [" perhaps", " no", " not that I know"],
        "e": [" fine"],
    }.items()
]


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_in_rows_absent_completions_and_other_groups_change_nothing(
    family: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PMPOConfig, "needs_reverse_kl", True)
    path = write_rows(tmp_path / "rows.jsonl", RAGGED)
    size = ["domain.data.held_out=0", "domain.data.scores=threshold", "domain.data.threshold=0.5"]
    domain = build(config_of(path, models / family, f"results_dir={tmp_path}", *size))
    assert isinstance(domain, Rows)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in domain.policy.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    whole = domain.feedback(domain.pack(domain.rows)).reverse_kl
    assert whole is not None
    alone = []
    for row in domain.rows:
        domain.samples = len(row.labels)  # no empty place
        alone.append(domain.feedback(domain.pack([row])).reverse_kl)
    torch.testing.assert_close(whole, torch.cat(alone), rtol=1e-4, atol=1e-6)
    copies = [row._replace(weight=0.0) for row in domain.rows[:2]]
    domain.samples = 4
    again = domain.feedback(domain.pack([*domain.rows, *copies])).reverse_kl
    torch.testing.assert_close(again[:5], whole, rtol=1e-4, atol=1e-6)
