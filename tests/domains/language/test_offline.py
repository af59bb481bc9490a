"""Learning from rows, in every format and on every kind of model."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
)

from suite.domains.language.models import as_reference
from suite.domains.language.offline import Rows
from suite.objectives.base import build_objective
from suite.runs.folder import RunFolder
from suite.train import train
from suite.training.export import ExportError
from tests.conftest import Tiny
from tests.domains.language.models import FAMILIES, config_of, domain_of
from tests.domains.language.rows import labelled, paired, scored, write_rows

FORMATS = {"labels": labelled, "pairs": paired, "scores": scored}
MODES = ["positive", "negative", "mixed"]


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
    assert domain.prompt_sharing, "completions of one prompt are read behind it"
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
    assert run.state() == "interrupted", "a full disk is no fault of the run"
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
        warned = "the loss is unbounded; " in caplog.text
        assert warned == (name != "guarded")
    assert ended["guarded"]["eval/change_rejected"] < -0.01
    assert ended["guarded"]["eval/kl"] < 0.5
    assert ended["too weak"]["eval/kl"] > 5
    assert ended["ended"]["step"] < 120
