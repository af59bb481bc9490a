"""Judges: a task's rule, your functions, reward models from folders or trained here."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from suite.config.fields import ConfigError
from suite.config.loading import load
from suite.config.schema import Config
from suite.domains.language.generation import decode, judge_completions, task_judge
from suite.domains.language.judges import RewardModel, import_judge
from suite.domains.language.models import load_pair
from suite.domains.language.online import LanguageModel, label_scores
from suite.domains.language.tasks.letters import Letters
from suite.domains.language.tokenizer import character_tokenizer
from suite.feedback.label_noise import LabelNoise
from suite.runs.folder import RunFolder
from suite.train import train
from tests import judging
from tests.conftest import BASE, ROOT, SCHEDULE, Tiny, parts_of
from tests.domains.language.rows import write_rows

TOKENIZER = character_tokenizer("abcdefghijklmnopqrstuvwxyz ?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a reward model, with random weights, as transformers saves them."""
    path = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    shape = {"vocab_size": len(TOKENIZER), "hidden_size": 16, "intermediate_size": 32}
    shape |= {"num_hidden_layers": 1, "num_attention_heads": 2, "initializer_range": 0.3}
    ends = {"eos_token_id": TOKENIZER.eos_token_id, "pad_token_id": TOKENIZER.pad_token_id}
    LlamaForCausalLM(LlamaConfig(**shape, **ends)).save_pretrained(path / "policy")
    reward = LlamaConfig(**shape, **ends, num_labels=1)
    LlamaForSequenceClassification(reward).save_pretrained(path / "reward")
    LlamaForSequenceClassification(LlamaConfig(**shape, **ends, num_labels=3)).save_pretrained(
        path / "three"
    )
    for name in ("policy", "reward", "three"):
        TOKENIZER.save_pretrained(path / name)
    return path


def config_of(folder: Path, tmp_path: Path, *overrides: str) -> Config:
    every = ({"prompt": f"is {a}{b} ok?"} for a in "abcdefgh" for b in "abcdefgh")
    rows = write_rows(tmp_path / "prompts.jsonl", every)
    return load(
        ROOT / BASE["lm"],
        [
            *SCHEDULE,
            *("domain.task=prompts", f"domain.prompts_path={rows}", "domain.max_new_tokens=6"),
            *(f"domain.model.path={folder}/policy", "domain.judge=tests.judging:length"),
            *("domain.prompts=4", "domain.eval_prompts=4", "domain.share_prompts=4"),
            *("domain.labels.by=ranks", f"results_dir={tmp_path}", *overrides),
        ],
    )


def test_your_prompts_your_judge_and_your_model_train(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path, "reference.update=average", "reference.rate=0.1")
    judging.CALLS.clear()
    train(config)
    run = RunFolder.of(config)
    scores = [row["eval/score"] for row in run.metrics() if "eval/score" in row]
    assert scores[-1] > scores[0], "short ones are preferred"
    assert len(judging.CALLS) > 12
    shown = run.examples()
    assert {"prompt", "completion", "score"} == set(shown[0])
    assert shown[0]["score"] == -len(shown[0]["completion"])


@pytest.mark.parametrize("ahead", [1, 3])
def test_batches_sampled_ahead_go_on_exactly(ahead: int, folder: Path, tmp_path: Path) -> None:
    def made() -> LanguageModel:
        return LanguageModel(
            config_of(folder, tmp_path, f"domain.ahead={ahead}").domain,
            parts_of(LabelNoise("mixed"), seed=0, cache=tmp_path))  # fmt: skip

    domain = made()
    stream = domain.train_dataloader()
    for _ in range(4):
        next(stream)
    state = domain.state_dict()
    assert len(state["waiting"]) == (ahead - 4 % ahead) % ahead
    following = [next(stream) for _ in range(4)]
    again = made()
    again.load_state_dict(state)
    for expected, found in zip(following, again.train_dataloader(), strict=False):
        assert torch.equal(expected.score, found.score)
        assert torch.equal(expected.tokens.input_ids, found.tokens.input_ids)


def test_a_reward_model_scores_prompt_and_completion_as_alone(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path)
    pair = load_pair(
        str(folder / "policy"), config.domain, "domain.model.path", torch.device("cpu")
    )
    prompts, texts = ["is a ok?", "b?"], [" yes it is", "no"]
    found = RewardModel(str(folder / "reward"), pair)(prompts, texts)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder / "reward")
    for prompt, text, score in zip(prompts, texts, found, strict=True):
        ids = TOKENIZER([f"{prompt}{text}<end>"], return_tensors="pt")["input_ids"]
        assert score == pytest.approx(model(input_ids=ids).logits[0, 0].item(), abs=1e-5)
    with pytest.raises(ConfigError, match=r"three must have one output, found 3"):
        RewardModel(str(folder / "three"), pair)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:judge", r"domain.judge=nowhere:judge cannot be imported: ModuleNotFoundError"),
        ("tests.judging:absent", r"cannot be imported: AttributeError: .* no attribute 'absent'"),
        (
            "tests.judging:NUMBER",
            r"domain.judge=tests.judging:NUMBER must be a function, found int",
        ),
    ],
)
def test_judges_that_are_not_there_are_told(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        import_judge(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"domain.judge=x failed on 2 completions: KeyError: 'price'"),
        ("undefined", r"must return finite scores, found nan for 'yes' after 'is a ok\?'"),
        ("short", r"domain.judge=x must return 2 scores, one per completion, found 1"),
    ],
)
def test_judges_that_fail_are_told(name: str, message: str) -> None:
    judge = getattr(judging, name)
    with pytest.raises(ConfigError, match=message):
        judge_completions(judge, "x", ["is a ok?"], ["yes", "no"], 2)


def test_a_failing_judge_loses_nothing(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path, "domain.judge=tests.judging:broken")
    with pytest.raises(ConfigError, match="KeyError"):
        train(config)
    run = RunFolder.of(config)
    assert run.state() == "failed"
    assert "domain.judge=tests.judging:broken failed" in str((run.summary() or {})["error"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["domain.task=prompts"], "domain.prompts_path must say which with domain.task=prompts"),
        (["domain.labels.by=ranks", "domain.labels.top=3"], r"at most domain.samples=4, found 5"),
        (
            ["domain.lora.rank=2", "reference.update=average"],
            r"reference.update must be frozen with domain.lora.rank above 0, .*found average",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(ROOT / BASE["lm"], overrides)


def test_prompts_that_do_not_fit_are_named(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path)
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a"}\n{"question": "b"}\n')
    with pytest.raises(ConfigError, match=r"line 2: prompt is missing; 1 of 2 rows do not fit$"):
        train(config)


def test_scores_become_labels() -> None:
    score = torch.tensor([[3.0, 1.0, 2.0, 2.0]])
    wanted = {
        "threshold": ([1, 0, 1, 1], [0, 1, 0, 0]),
        "ranks": ([1, 0, 0, 0], [0, 1, 0, 0]),  # not the tie across the limit
        "mean": ([1, 0, 0, 0], [0, 1, 0, 0]),
    }
    for by, (accept, reject) in wanted.items():
        found = label_scores(score, by, threshold=2.0, top=1, bottom=2)
        assert found.accept.tolist() == [accept]
        assert found.reject.tolist() == [reject]


def test_letters_count_once_and_others_cost() -> None:
    task = Letters()
    assert task.score("abcd>", "dcba") == 1
    assert task.score("abcd>", "ab") == 0.5
    assert task.score("abcd>", "abab") == 0.25  # two repeated: −2·½
    assert task.score("abcd>", "abx") == pytest.approx(0.375)
    assert task.score("abcd>", "") == 0
    generator = torch.Generator().manual_seed(0)
    prompts = task.prompts(400, generator, held_out=False)
    assert all(len(set(p[:-1])) == 4 for p in prompts)
    said = [task.demonstration(str(p), generator) for p in prompts]
    mean = sum(task.score(str(p), s) for p, s in zip(prompts, said, strict=True)) / 400
    assert 0.5 < mean < 0.65, ".6 of the letters, and a quarter of the time one more"


def test_a_learned_reward_model_is_made_once_and_knows_the_task(tiny: Tiny, tmp_path: Path) -> None:
    small = ["domain.model.hidden_size=64", "domain.model.layers=2"]
    small += ["domain.reward.completions=1024", "domain.reward.steps=250", "domain.judge=learned"]
    small += ["domain.pretrain.target_accuracy=0.3", "domain.pretrain.batch_size=128"]
    config = tiny("lm", "domain.task=letters", "domain.labels.by=ranks", *small, results=tmp_path)
    train(config)
    run = RunFolder.of(config)
    assert {"eval/score", "eval/judge_score"} <= run.metrics()[0].keys()
    (made,) = (tmp_path / "rewards").glob("letters-*")
    before = made.stat().st_mtime_ns
    domain = LanguageModel(
        config.domain, parts_of(LabelNoise("mixed"), seed=5, cache=tmp_path))  # fmt: skip
    assert made.stat().st_mtime_ns == before
    prompts, drawn, scores = domain.sample_completions(
        torch.Generator().manual_seed(1), 128, held_out=True, split=False
    )
    texts = decode(domain.tokenizer, drawn)
    exact = judge_completions(task_judge(Letters()), "exact", prompts, texts, 4)
    assert torch.corrcoef(torch.stack([exact.flatten(), scores.flatten()]))[0, 1] > 0.5
