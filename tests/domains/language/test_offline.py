"""Learning from rows, in every format, on every kind of model; and what cannot be learned from."""

import itertools
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

from suite.config.fields import ConfigError
from suite.config.loading import load
from suite.config.schema import Config
from suite.domains.language.models import as_reference
from suite.domains.language.offline import Rows
from suite.domains.language.scoring import check_model
from suite.domains.language.tokenizer import character_tokenizer
from suite.feedback.label_noise import LabelNoise
from suite.objectives.base import build_objective
from suite.runs.folder import RunFolder
from suite.train import train
from suite.training.export import ExportError
from tests.conftest import BASE, ROOT, SCHEDULE, Tiny, parts_of
from tests.domains.language.rows import GOOD, labelled, paired, scored, write_rows

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


FORMATS = {"labels": labelled, "pairs": paired, "scores": scored}
MODES = ["positive", "negative", "mixed"]


def config_of(data: Path | str, model: Path | str, *overrides: str) -> Config:
    fixed = [f"domain.data.path={data}", f"domain.model={model}", "domain.batch_size=2"]
    return load(ROOT / BASE["rows"], [*fixed, "domain.max_length=64", *SCHEDULE, *overrides])


def domain_of(config: Config, cache: Path) -> Rows:
    return Rows(
        config.domain, parts_of(LabelNoise(config.feedback, config.labels), seed=0, cache=cache)
    )


@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat"])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("rank", [0, 2], ids=["full", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_model_learns_from_every_format(
    family: str, rank: int, form: str, chat: bool, models: Path, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", FORMATS[form](chat))
    # Every mode with every format, model, and kind of text.
    turn = list(FAMILIES).index(family) + list(FORMATS).index(form) + chat
    mode = f"feedback={MODES[turn % 3]}"
    config = config_of(path, models / family, mode, f"domain.lora.rank={rank}")
    domain = domain_of(config, tmp_path)
    assert domain.share_prompts, "completions of one prompt are read behind it"
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
    """Log-probabilities of the reference by transformers' own logits, one sequence at a time."""
    found = []
    with as_reference(domain.pair) as model:
        for ids, segments in zip(tokens.input_ids, tokens.segments, strict=True):
            prompt = ids[segments == 0]
            for segment in range(1, int(segments.max()) + 1):
                completion = ids[segments == segment]
                whole = torch.cat([prompt, completion])[None]
                logits = model(input_ids=whole).logits[0, len(prompt) - 1 : -1]
                logp = logits.float().log_softmax(-1)
                found.append(logp.gather(-1, completion[:, None]).sum())
    return torch.stack(found).view(-1, len(domain.rows[0].labels))


@pytest.mark.parametrize("kind", ["full", "lora", "lora, also on the head, merged"])
def test_a_run_ends_in_a_folder_that_transformers_loads(
    kind: str, models: Path, tmp_path: Path
) -> None:
    rank = 0 if kind == "full" else 2
    path = write_rows(tmp_path / "thumbs.jsonl", labelled(chat=False))
    where = [f"results_dir={tmp_path}", f"domain.lora.rank={rank}", "optimizer.lr=1e-3"]
    if merged := "merged" in kind:
        where += ["domain.lora.head=true", "domain.lora.merge=true"]
    config = config_of(path, models / "qwen2", *where)
    assert config.domain.task == "thumbs"
    train(config)
    folder = RunFolder.of(config).path / "policy"
    if rank and not merged:
        import peft

        found: Any = peft.AutoPeftModelForCausalLM.from_pretrained(folder)
        assert any("lora" in name for name, _ in found.named_parameters())
    else:
        found = AutoModelForCausalLM.from_pretrained(folder)
    card = (folder / "README.md").read_text()
    assert f"base_model: {models / 'qwen2'}" in card
    assert f"| data | rows of `{path}` |" in card
    assert "| objective | pmpo, α = 0.5, β = " in card
    assert card.count("| signed_change |") == 1
    scores = [row["eval/score"] for row in RunFolder.of(config).metrics() if "eval/score" in row]
    assert scores[0] == pytest.approx(0, abs=1e-5)
    assert scores[-1] > 0.01, "accepted rows are likelier, rejected ones less so"
    state = torch.load(RunFolder.of(config).checkpoints / "last.ckpt", weights_only=True)
    if merged:
        (up,) = (v for k, v in state["state_dict"].items() if "lm_head.lora_B" in k)
        assert up.abs().max() > 1e-4, "the head's adapter learned"
    domain = domain_of(config, tmp_path)
    domain.policy.load_state_dict(
        {k[7:]: v for k, v in state["state_dict"].items() if k.startswith("policy.")}
    )
    ids = torch.tensor([[3, 4, 5, 6]])
    torch.testing.assert_close(
        found(input_ids=ids).logits, domain.policy(input_ids=ids).logits, rtol=1e-3, atol=1e-4
    )


def test_a_policy_that_cannot_be_written_is_told_and_written_by_the_same_command(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "thumbs.jsonl", labelled(chat=False))
    config = config_of(path, models / "llama", f"results_dir={tmp_path}")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        patch.setattr("transformers.modeling_utils.safe_save_file", full)
        with pytest.raises(ExportError, match=r"policy cannot be written: .*No space left on dev"):
            train(config)
    run = RunFolder.of(config)
    assert run.state() == "failed"
    assert not (run.path / "policy").exists(), "not even half of it"
    steps = len(run.metrics())
    assert train(config)["status"] == "finished"
    assert len(run.metrics()) == steps, "nothing was trained again"
    AutoModelForCausalLM.from_pretrained(run.path / "policy")


def test_a_run_ends_where_its_kl_is_too_large_also_after_a_kill(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "thumbs.jsonl", labelled(chat=False))
    wild = ["optimizer.lr=0.1", "trainer.max_kl=0.01", f"results_dir={tmp_path}"]
    config = config_of(path, models / "llama", *wild)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("suite.train.export", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    run = RunFolder.of(config)
    rows = run.metrics()
    assert rows[-1]["step"] == 4, "of 12: the first evaluation"
    assert train(config)["step"] == 4
    assert run.metrics() == rows


def test_batches_within_a_budget_of_tokens_train(models: Path, tmp_path: Path) -> None:
    rows = [*labelled(chat=False)] * 4
    path = write_rows(tmp_path / "thumbs.jsonl", rows)
    budget = ["domain.batch_size=16", "domain.tokens=100", f"results_dir={tmp_path}"]
    config = config_of(path, models / "llama", *budget, "domain.gradient_checkpointing=true")
    assert train(config)["step"] == 12


def test_pairs_are_missing_where_rows_stand_alone(models: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "thumbs.jsonl", labelled(chat=False))
    config = config_of(path, models / "llama", "objective={name: dpo}", f"results_dir={tmp_path}")
    with pytest.raises(ConfigError, match=r"name=dpo compares completions of one context"):
        train(config)


@pytest.mark.parametrize(
    ("rows", "overrides", "message"),
    [
        ([GOOD] * 9, ["feedback=negative"], "feedback=negative needs rejected .* none of the"),
        (
            [GOOD | {"prompt": "p" * 80}] * 4,
            [],
            r"line 1: prompt must leave room .*found 80 tokens; .*4 of 4 rows do not fit",
        ),
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
    endless = tmp_path / "endless"
    endless.mkdir()
    for file in (models / "llama").iterdir():
        (endless / file.name).write_bytes(file.read_bytes())
    plain = tokenizer()
    plain.eos_token = None
    plain.save_pretrained(endless)
    text = write_rows(tmp_path / "text.jsonl", labelled(chat=False))
    with pytest.raises(ConfigError, match=r"domain.model: its tokenizer has no end token"):
        domain_of(config_of(text, endless), tmp_path)


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


def test_a_model_whose_logits_are_made_in_another_way_is_refused(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForCausalLM.from_pretrained(models / "gemma2")
    check_model(model, "domain.model")
    model.config.final_logit_softcapping = None  # the head no longer knows, the model does
    honest = model.forward

    def capped(**arguments: Any) -> Any:
        found = honest(**arguments)
        found.logits = 3 * (found.logits / 3).tanh()
        return found

    monkeypatch.setattr(model, "forward", capped)
    with pytest.raises(ConfigError, match=r"domain.model: models of type gemma2 make their logits"):
        check_model(model, "domain.model")


def test_rejections_alone_bend_a_guarded_model_and_ruin_another_that_was_warned_of(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    long = ["feedback=negative", "domain.builtin.only_rejected=true", "optimizer.lr=2e-3"]
    long += ["trainer.steps=120", "trainer.eval_every=30"]
    weak, ended = ["objective.margin=0.3", "objective.guard=null"], {}
    for name, extra in {
        "guarded": [],
        "too weak": weak,
        "ended": [*weak, "trainer.max_kl=1"],
    }.items():
        caplog.clear()
        config = tiny("rows", *long, *extra)
        train(config)
        ended[name] = RunFolder.of(config).metrics()[-1]
        warned = "the loss is unbounded and the policy may collapse" in caplog.text
        assert warned == (name != "guarded")
    assert ended["guarded"]["eval/change_rejected"] < -0.01
    assert ended["guarded"]["eval/kl"] < 0.5
    assert ended["too weak"]["eval/kl"] > 5
    assert ended["ended"]["step"] < 120
