"""The two halves of held-out prompts: disjoint, whole together, and the same for every seed."""

from pathlib import Path

import pytest
import torch

from suite.config.fields import ConfigError
from suite.domains.language.config import EvalPart
from suite.domains.language.eval_part import eval_prompts, half_of, part_of, prompt_key
from suite.domains.language.online import LanguageModel
from suite.domains.language.tasks.arithmetic import Arithmetic
from suite.domains.language.tasks.base import Prompts
from suite.domains.language.tasks.letters import Letters
from suite.domains.language.tasks.prompt_file import PromptFile
from suite.feedback.label_noise import LabelNoise
from tests.conftest import Tiny, parts_of
from tests.domains.language.models import config_of, domain_of
from tests.domains.language.rows import write_rows

HALVES: tuple[EvalPart, EvalPart] = ("tuning", "report")


def drawn(source: Prompts, part: EvalPart, seed: int, count: int = 3000) -> set[str]:
    generator = torch.Generator().manual_seed(seed)
    prompts = eval_prompts(source, part).prompts(count, generator, held_out=True)
    assert len(prompts) == count
    return {str(prompt) for prompt in prompts}


@pytest.mark.parametrize("kind", ["arithmetic", "letters", "file"])
def test_the_halves_are_disjoint_and_cover_what_is_held_out(kind: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "p.jsonl", ({"prompt": f"tell me of {i}"} for i in range(300)))
    sources = {"arithmetic": Arithmetic(1), "letters": Letters()}
    source = sources[kind] if kind in sources else PromptFile(str(path), 4)
    tuning, report = (drawn(source, half, seed=1) for half in HALVES)
    assert tuning
    assert report
    assert not tuning & report
    if kind != "letters":  # 12·11·10·9 prompts are not all drawn
        assert tuning | report == drawn(source, "all", seed=2)
    for seed in (5, 6):
        assert not drawn(source, "tuning", seed) & report, "a seed changes no prompt's half"


def test_training_prompts_and_all_held_out_prompts_are_drawn_as_without_halves() -> None:
    source = Arithmetic(2)
    assert eval_prompts(source, "all") is source
    halved = eval_prompts(source, "tuning")
    for count in (1, 7, 100):
        one, other = (torch.Generator().manual_seed(3) for _ in range(2))
        plain = source.prompts(count, one, held_out=False)
        assert halved.prompts(count, other, held_out=False) == plain


class OnePrompt:
    """A source whose held-out prompts are all the same."""

    max_new_tokens = 4

    def prompts(self, count: int, generator: torch.Generator, *, held_out: bool) -> list[str]:
        return ["the only one"] * count


def test_a_half_without_prompts_is_refused() -> None:
    (other,) = (half for half in HALVES if half != half_of(prompt_key("the only one")))
    with pytest.raises(ConfigError, match=f"eval_part={other} needs held-out prompts in that half"):
        drawn(OnePrompt(), other, seed=0, count=2)
    with pytest.raises(ConfigError, match=r"needs rows in both halves, and the half `\w+` of 1 is"):
        part_of([b"a"], "report", bytes, "rows")
    with pytest.raises(ConfigError, match="of 0 is empty"):
        part_of([], "tuning", bytes, "rows")


def test_rows_are_divided_by_prompt_the_same_for_all_seeds(models: Path, tmp_path: Path) -> None:
    rows = (
        {"prompt": f"is {i // 2} ok?", "completion": f" yes {i}", "label": i % 3 != 0}
        for i in range(80)
    )
    path = write_rows(tmp_path / "rows.jsonl", rows)

    def held_out(part: str, seed: int) -> list[bytes]:
        keys = [f"domain.eval_part={part}", f"seed={seed}", "domain.data.held_out=0.5"]
        domain = domain_of(config_of(path, models / "qwen2", *keys), tmp_path)
        return [group.prompt for group in domain.held_out]

    whole, tuning, report = (held_out(part, 0) for part in ("all", *HALVES))
    assert sorted(tuning + report) == sorted(whole)
    assert tuning
    assert report
    assert not set(tuning) & set(report), "both rows of a prompt are in its half"
    assert held_out("tuning", 7) == tuning


def test_rows_without_held_out_prompts_are_refused(models: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [])
    with pytest.raises(ConfigError, match=r"eval_part=tuning divides held-out prompts, and domain"):
        config_of(path, models / "qwen2", "domain.eval_part=tuning", "domain.data.held_out=0")


def test_built_in_domains_evaluate_the_half(tiny: Tiny, shared_results: Path) -> None:
    accuracies: dict[str, float] = {}
    for part in ("all", *HALVES):
        config = tiny("rows", f"domain.eval_part={part}", "domain.data.held_out=0.5")
        accuracies[part] = domain_of(config, shared_results / "cache").evaluate()["score"]
    assert len(set(accuracies.values())) > 1, "other prompts, other accuracies"
    config = tiny("lm", "domain.eval_part=tuning")
    parts = parts_of(LabelNoise("mixed"), 0, shared_results / "cache")
    domain = LanguageModel(config.domain, parts)
    domain.evaluate()
    shown = {example["prompt"] for example in domain.examples()}
    assert shown <= drawn(Arithmetic(1), "tuning", seed=0)


def test_run_names_are_as_before_for_all_prompts(tiny: Tiny) -> None:
    for domain in ("lm", "rows"):
        names = {
            part: tiny(domain, f"domain.eval_part={part}").run_name for part in ("all", *HALVES)
        }
        assert names["all"] == tiny(domain).run_name
        assert len(set(names.values())) == 3
