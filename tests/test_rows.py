"""Rows of feedback, in every format, on every kind of model; and what does not fit."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    PreTrainedTokenizerBase,
    Qwen2Config,
)

from suite.config import Config, load
from suite.domains.lm.tokenizer import character_tokenizer
from suite.domains.rows.config import DataConfig
from suite.domains.rows.domain import Rows
from suite.domains.rows.schema import load_rows
from suite.domains.rows.tokens import Encoded, Sequence, batches, collate, order
from suite.keys import ConfigError
from suite.objectives import build_objective
from suite.results import RunFolder
from suite.train import train
from tests.conftest import BASE, ROOT, SCHEDULE

ALPHABET = "abcdefghijklmnopqrstuvwxyz .?:\n"
CHAT = (
    "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
FAMILIES: dict[str, tuple[type, dict[str, Any]]] = {
    "llama": (LlamaConfig, {"tie_word_embeddings": False}),
    "qwen2": (Qwen2Config, {}),
    "gemma2": (Gemma2Config, {"final_logit_softcapping": 3.0, "sliding_window": 8}),
}


def tokenizer() -> PreTrainedTokenizerBase:
    made = character_tokenizer(ALPHABET)
    made.chat_template = CHAT
    return made


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of small random models, in the format of real ones."""
    folder = tmp_path_factory.mktemp("models")
    words = tokenizer()
    for name, (kind, extra) in FAMILIES.items():
        torch.manual_seed(0)
        special = {f"{n}_token_id": getattr(words, f"{n}_token_id") for n in ("pad", "bos", "eos")}
        config = kind(vocab_size=len(words) + 5, initializer_range=0.3, **SHAPE, **special, **extra)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / name)
        words.save_pretrained(folder / name)
    return folder


def message(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def labelled(chat: bool) -> Iterable[dict[str, Any]]:
    for i, value in enumerate([True, False, 1, -1, 0, True, False, 1]):
        prompt, answer = f"is {'abc'[i % 3]} ok?", " yes" * (1 + i % 3)
        yield {
            "prompt": message("user", prompt) if chat else prompt,
            "completion": message("assistant", answer) if chat else answer,
            "label": value,
            "weight": 1 + i % 2,
        }


def paired(chat: bool) -> Iterable[dict[str, Any]]:
    for i in range(6):
        prompt = f"is {'abc'[i % 3]} ok?"
        yield {
            "prompt": message("user", prompt) if chat else prompt,
            "chosen": message("assistant", " yes") if chat else " yes",
            "rejected": message("assistant", " no way") if chat else " no way",
        }


def scored(chat: bool) -> Iterable[dict[str, Any]]:
    for i in range(6):
        prompt = f"is {'abc'[i % 3]} ok?"
        answers = [" yes", " no", " well"]
        yield {
            "prompt": message("user", prompt) if chat else prompt,
            "completions": [message("assistant", a) if chat else a for a in answers],
            "scores": [1.0, 0.0, 0.2 * i],
        }


FORMATS = {"labels": labelled, "pairs": paired, "scores": scored}
MODES = itertools.cycle(["positive", "negative", "mixed"])


def write_rows(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def config_of(data: Path | str, model: Path | str, *overrides: str) -> Config:
    fixed = [f"domain.data.path={data}", f"domain.model={model}", "domain.batch_size=2"]
    return load(ROOT / BASE["rows"], [*fixed, "domain.max_length=64", *SCHEDULE, *overrides])


def domain_of(config: Config, cache: Path) -> Rows:
    return Rows(config.domain, feedback=config.feedback, divergence="forward", seed=0, cache=cache)


@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat"])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("rank", [0, 2], ids=["full", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_model_learns_from_every_format(
    family: str, rank: int, form: str, chat: bool, models: Path, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", FORMATS[form](chat))
    mode = f"feedback={next(MODES)}"
    config = config_of(path, models / family, mode, f"domain.lora.rank={rank}")
    domain = domain_of(config, tmp_path)
    objective = build_objective(config.objective, config.feedback, None)
    trained = [p for p in domain.policy.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trained]
    frozen = [p for p in domain.policy.parameters() if not p.requires_grad]
    kept = [p.clone() for p in frozen]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    kls = []
    for batch in itertools.islice(domain.train_dataloader(), 4):
        feedback = domain.feedback(batch)
        torch.testing.assert_close(
            feedback.reference_logp, plain_logp(domain, batch.tokens), rtol=1e-4, atol=1e-4
        )
        kls.append(feedback.kl.mean().item())
        optimizer.zero_grad()
        objective(feedback, domain.shares).loss.backward()
        optimizer.step()
    assert abs(kls[0]) < 1e-5, "policy and reference begin as one"
    assert max(kls) > 1e-6
    assert any(not torch.equal(old, new) for old, new in zip(before, trained, strict=True))
    assert all(torch.equal(old, new) for old, new in zip(kept, frozen, strict=True))
    assert bool(frozen) == (rank > 0), "with adapters the weights are shared, and not trained"
    assert domain.evaluate()["kl"] > 0


@torch.no_grad()
def plain_logp(domain: Rows, tokens: Any) -> torch.Tensor:
    """Log-probabilities of the reference by transformers' own logits."""
    policy: Any = domain.policy
    lora = hasattr(policy, "disable_adapter")
    model = domain.policy if lora else domain.reference
    ids, mask = tokens.input_ids, tokens.completion_mask[:, 1:]
    if lora:
        with policy.disable_adapter():
            logits = policy(input_ids=ids, attention_mask=tokens.attention_mask).logits
    else:
        logits = model(input_ids=ids, attention_mask=tokens.attention_mask).logits
    logp = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    summed: torch.Tensor = (logp * mask).sum(1)
    return summed.view(-1, len(domain.rows[0].labels))


@pytest.mark.parametrize("rank", [0, 2], ids=["full", "lora"])
def test_a_run_ends_in_a_folder_that_transformers_loads(
    rank: int, models: Path, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "thumbs.jsonl", labelled(chat=False))
    where = [f"results_dir={tmp_path}", f"domain.lora.rank={rank}"]
    config = config_of(path, models / "qwen2", *where)
    assert config.domain.task == "thumbs"
    train(config)
    folder = RunFolder.of(config).path / "policy"
    if rank:
        import peft

        found: Any = peft.AutoPeftModelForCausalLM.from_pretrained(folder)
        assert any("lora" in name for name, _ in found.named_parameters())
    else:
        AutoModelForCausalLM.from_pretrained(folder)
    scores = [row["eval/score"] for row in RunFolder.of(config).metrics() if "eval/score" in row]
    assert scores[0] == pytest.approx(0, abs=1e-5)
    assert scores[-1] > 0.01, "accepted rows are likelier, rejected ones less so"


@pytest.mark.parametrize("kind", ["parquet", "folder", "splits"])
def test_tables_hold_the_same_rows_as_lines(kind: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    lines = write_rows(tmp_path / "rows.jsonl", scored(chat=True))
    table = datasets.Dataset.from_list(list(scored(chat=True)))
    path = tmp_path / "rows.parquet"
    if kind == "parquet":
        table.to_parquet(path)
    else:
        path = tmp_path / "rows"
        whole = table if kind == "folder" else datasets.DatasetDict({"train": table})
        whole.save_to_disk(path)
    expected, _ = load_rows(DataConfig(path=str(lines)))
    found, _ = load_rows(DataConfig(path=str(path)))
    assert [group[:4] for group in found] == [group[:4] for group in expected]
    if kind == "splits":
        with pytest.raises(ConfigError, match=r"domain.data.split=test: .* has train"):
            load_rows(DataConfig(path=str(path), split="test"))


GOOD = {"prompt": "p", "completion": "c", "label": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "p"', r"line 2: not valid JSON"),
        ('["p"]', r"line 2: expected an object with fields, found list"),
        ('{"completion": "c", "label": 1}', r"line 2: prompt is missing"),
        (
            '{"prompt": "p", "completion": "c"}',
            r"expected completion and label or .*, found prompt",
        ),
        ('{"prompt": "p", "completion": "c", "label": "yes"}', r"1, -1 or 0, found 'yes'"),
        ('{"prompt": "p", "completion": "c", "label": 2}', r"label must be .*, found 2"),
        ('{"prompt": 7, "completion": "c", "label": 1}', r"prompt must be text or .*, found 7"),
        ('{"prompt": "p", "completion": "c", "label": 1, "weight": 0}', r"above 0, found 0"),
        ('{"prompt": "p", "completions": ["a"], "scores": [1, 2]}', r"must be 1 numbers"),
        ('{"prompt": "p", "completions": ["a"], "scores": [NaN]}', r"one per completion, found"),
    ],
)
def test_a_row_that_does_not_fit_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n")
    with pytest.raises(ConfigError, match=message) as told:
        load_rows(DataConfig(path=str(path)))
    assert "1 of 2 rows do not fit; domain.data.skip_bad=true" in str(told.value)
    groups, bad = load_rows(DataConfig(path=str(path), skip_bad=True))
    assert (len(groups), len(bad)) == (1, 1)


def test_all_bad_rows_are_counted_before_anything_starts(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [GOOD, *({"prompt": i} for i in range(20))])
    with pytest.raises(ConfigError, match="20 of 21 rows do not fit") as told:
        load_rows(DataConfig(path=str(path)))
    assert str(told.value).count("line") == 5, "and a few are named"


def test_no_rows_are_told(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    with pytest.raises(ConfigError, match=r"rows.jsonl: no rows"):
        load_rows(DataConfig(path=str(tmp_path / "rows.jsonl")))


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ({"scores": "mean"}, [1, -1, 0, 0]),
        ({"scores": "threshold", "threshold": 2.0}, [1, -1, 1, 1]),
        ({"scores": "ranks", "top": 1, "bottom": 2}, [1, -1, 0, -1]),
    ],
)
def test_scores_become_labels(scores: dict[str, Any], labels: list[int], tmp_path: Path) -> None:
    row = {"prompt": "p", "completions": list("abcd"), "scores": [3, 1, 2, 2]}
    path = write_rows(tmp_path / "rows.jsonl", [row])
    (group,), _ = load_rows(DataConfig(path=str(path), **scores))
    assert group.labels == labels


@pytest.mark.parametrize(
    ("rows", "overrides", "message"),
    [
        ([GOOD] * 9, ["feedback=negative"], "feedback=negative needs rejected .* none of the"),
        ([GOOD | {"prompt": "p" * 80}] * 4, [], r"line 1: the prompt has .* leaves no room"),
        ([GOOD], [], r"domain.batch_size=2 needs as many groups of rows, found 1"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(
    rows: list[Any], overrides: list[str], message: str, models: Path, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(ConfigError, match=message):
        domain_of(config_of(path, models / "llama", *overrides), tmp_path)


def test_models_that_cannot_be_loaded_are_told(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # or it tries for long
    path = write_rows(tmp_path / "rows.jsonl", labelled(chat=True))
    hollow = tmp_path / "hollow"
    hollow.mkdir()
    for file in (models / "llama").iterdir():
        if "safetensors" not in file.name:
            (hollow / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match="hollow: folder cannot be loaded"):
        domain_of(config_of(path, hollow), tmp_path)
    with pytest.raises(ConfigError, match=r"domain.model=no/such: is no folder here, and no name"):
        domain_of(config_of(path, "no/such"), tmp_path)
    silent = tmp_path / "silent"
    silent.mkdir()
    for file in (models / "llama").iterdir():
        if "chat_template" not in file.name:
            (silent / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match=r"line 1: holds messages, but .* has no chat template"):
        domain_of(config_of(path, silent), tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["domain.data.path=x.jsonl"], "domain.model must be .* with domain.data.path"),
        (["domain.dtype=bfloat16"], "domain.dtype=bfloat16 is for weights that are not trained"),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(ROOT / BASE["rows"], overrides)


def test_a_file_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"domain.data.path=x.jsonl: no such file or folder"):
        config_of("x.jsonl", "m").check_machine()


def groups_of(lengths: list[int]) -> list[Encoded]:
    return [Encoded([Sequence([1] * n, 1)], [1.0], 1.0) for n in lengths]


def test_batches_hold_every_group_once_per_epoch_and_go_on_where_they_were() -> None:
    groups = groups_of(list(range(2, 32)))
    first, second = (order(groups, 5, seed=3, epoch=e) for e in (0, 1))
    assert sorted(i for batch in first for i in batch) == list(range(30))
    assert first != second
    state = {"epoch": 0, "position": 0}
    stream = batches(groups, 5, 3, 0, state)
    drawn = [next(stream) for _ in range(9)]
    again = {"epoch": 0, "position": 4}
    assert list(itertools.islice(batches(groups, 5, 3, 0, again), 5)) == drawn[4:]
    assert state == again == {"epoch": 1, "position": 3}


def test_batches_hold_little_padding() -> None:
    lengths = torch.randint(5, 400, (640,), generator=torch.Generator().manual_seed(0)).tolist()
    groups = groups_of(lengths)
    padded = sum(
        collate([groups[i] for i in batch], 0).tokens.input_ids.numel()
        for batch in order(groups, 8, seed=0, epoch=0)
    )
    assert padded < 1.1 * sum(lengths)


def test_truncation_keeps_the_prompt_and_the_first_of_the_completion(
    models: Path, tmp_path: Path
) -> None:
    rows = [{"prompt": "ab", "completion": "c" * 100, "label": 1}] * 4
    path = write_rows(tmp_path / "rows.jsonl", rows)
    domain = domain_of(config_of(path, models / "llama", "domain.max_length=10"), tmp_path)
    sequence = domain.rows[0].sequences[0]
    assert len(sequence.ids) == 10
    words = domain.tokenizer
    assert words.decode(sequence.ids[sequence.prompt :]) == "c" * (10 - sequence.prompt)
