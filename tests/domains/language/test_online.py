"""The language-model domain's parts: task, tokenizer, sampler, statistics, cached reference."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributions import Categorical, kl_divergence
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from suite.domains.language.generation import complete, judge_completions, task_judge
from suite.domains.language.models import Pair
from suite.domains.language.online_config import LMConfig
from suite.domains.language.packing import Sequence, pack
from suite.domains.language.pretraining import (
    demonstration_loss,
    reference_folder,
    reference_signature,
)
from suite.domains.language.scoring import compare
from suite.domains.language.tasks import build_task
from suite.domains.language.tasks.arithmetic import Arithmetic, result
from suite.domains.language.tokenizer import character_tokenizer
from suite.runs.folder import RunFolder
from suite.train import train
from tests.conftest import Tiny

TASK = Arithmetic(digits=2)
TOKENIZER = character_tokenizer(TASK.alphabet)


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = LlamaConfig(
        vocab_size=len(TOKENIZER),
        num_attention_heads=2,
        initializer_range=0.5,  # far from uniform, so that errors show
        pad_token_id=TOKENIZER.pad_token_id,
        bos_token_id=TOKENIZER.bos_token_id,
        eos_token_id=TOKENIZER.eos_token_id,
        **shape,
    )
    return LlamaForCausalLM(config).eval()


def test_arithmetic_judges_the_exact_result() -> None:
    assert result("12+90=") == "102"
    assert result("12-90=") == "-78"
    assert TASK.score("12-12=", "0") == 1
    assert TASK.score("12+90=", "0102") == 0
    assert TASK.score("12+90=", "") == 0


def test_held_out_prompts_never_occur_in_training() -> None:
    generator = torch.Generator().manual_seed(0)
    training = set(TASK.prompts(5000, generator, held_out=False))
    held_out = set(TASK.prompts(2000, generator, held_out=True))
    assert not training & held_out
    assert all(p[-1] == "=" for p in training | held_out)


def test_the_longest_answers_fit() -> None:
    for prompt in ("99+99=", "0-99="):
        assert len(result(prompt)) + 1 <= TASK.max_new_tokens


def test_the_tokenizer_returns_what_it_was_given_and_reloads(tmp_path: Path) -> None:
    text = "12-345=-333"
    TOKENIZER.save_pretrained(tmp_path)
    for tokenizer in (TOKENIZER, AutoTokenizer.from_pretrained(tmp_path)):
        ids = tokenizer([text, "1="], padding=True)["input_ids"]
        assert tokenizer.batch_decode(ids, skip_special_tokens=True) == [text, "1="]
        assert ids[1][0] == tokenizer.pad_token_id, "prompts are padded on the left"


@pytest.mark.parametrize("share", [False, True])
def test_statistics_equal_one_sequence_at_a_time_without_padding(
    share: bool, model: LlamaForCausalLM
) -> None:
    torch.manual_seed(1)
    policy = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    prompts = ["1+2=", "34-56="]
    drawn = complete(model, TOKENIZER, prompts, 3, 4, torch.Generator().manual_seed(2))
    groups = [
        [Sequence(p + c, len(p)) for c in drawn.completions[3 * i : 3 * i + 3]]
        for i, p in enumerate(drawn.prompts)
    ]
    tokens = pack(groups, TOKENIZER.pad_token_id, share)
    assert tokens.shared == share
    pair = Pair(policy, model, TOKENIZER)
    found, _ = compare(pair, tokens, 6, temperature=1.5, extra=("entropy",))
    for i in range(6):
        prompt, completion = drawn.prompts[i // 3], drawn.completions[i]
        ids, first = torch.tensor([prompt + completion]), len(prompt)
        logits, reference = (
            m(input_ids=ids).logits[0, first - 1 : -1] / 1.5 for m in (policy, model)
        )
        p, q = Categorical(logits=reference), Categorical(logits=logits)
        targets = ids[0, first:]
        tolerance = {"atol": 1e-4, "rtol": 1e-4}
        torch.testing.assert_close(found.logp[i], q.log_prob(targets).sum(), **tolerance)
        torch.testing.assert_close(found.reference_logp[i], p.log_prob(targets).sum(), **tolerance)
        torch.testing.assert_close(found.kl[i], kl_divergence(p, q).sum(), **tolerance)
        torch.testing.assert_close(found.extra["entropy"][i], q.entropy().sum(), **tolerance)


def test_pretraining_learns_the_answers_tokens_and_nothing_else(model: LlamaForCausalLM) -> None:
    prompts, answers = ["1+2=", "34-56="], ["3<end>", "-22<end>"]
    found = demonstration_loss(model, TOKENIZER, prompts, answers)
    total, count = torch.zeros(()), 0
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = TOKENIZER([prompt + answer], return_tensors="pt")["input_ids"]
        first = len(prompt)
        logp = model(input_ids=ids).logits[0].log_softmax(-1)
        picked = logp[first - 1 : -1].gather(1, ids[0, first:, None])
        total, count = total - picked.sum(), count + len(picked)
    assert count == 2 + 4  # "3" and its end, "-22" and its end
    torch.testing.assert_close(found, total / count, atol=1e-5, rtol=1e-5)


def test_judged_completions_are_of_their_own_prompt() -> None:
    prompts, texts = ["1+2=", "5+5="], ["3", "10", "3", "10"]
    found = judge_completions(task_judge(TASK), "exact", prompts, texts, 2)
    assert found.tolist() == [[1, 0], [0, 1]]


def test_the_trained_policy_is_saved_as_transformers_loads_it(tiny: Tiny) -> None:
    config = tiny("lm")
    train(config)
    run = RunFolder.of(config)
    loaded = AutoModelForCausalLM.from_pretrained(run.path / "policy")
    tokenizer = AutoTokenizer.from_pretrained(run.path / "policy")
    assert tokenizer(["1+2="])["input_ids"] == TOKENIZER(["1+2="])["input_ids"]
    state = torch.load(run.checkpoints / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, state[f"policy.{name}"]), name


def test_the_cache_is_keyed_by_what_determines_the_reference() -> None:
    base = LMConfig()
    assert reference_signature(base) == reference_signature(LMConfig(prompts=3, samples=9))
    assert reference_signature(base) != reference_signature(LMConfig(digits=3))


@pytest.mark.slow
def test_two_runs_that_start_together_train_one_reference(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny("lm", results=tmp_path)
    code = (
        "import sys\nfrom pathlib import Path\nfrom suite.config.loading import load\n"
        "from suite.domains.language import pretraining as reference\n"
        "from suite.domains.language.tasks import build_task\n"
        "pretrain = reference.pretrain\n"
        "def counted(*a):\n    print('trained', flush=True)\n    return pretrain(*a)\n"
        "reference.pretrain = counted\n"
        "s = load(Path(sys.argv[1])).domain\n"
        "from transformers import AutoModelForCausalLM as A\n"
        "m = A.from_pretrained(reference.reference_folder(s, build_task(s), Path(sys.argv[2])))\n"
        "print('sum', sum(p.double().sum().item() for p in m.parameters()))\n"
    )
    run = RunFolder.of(config)
    run.create(config)
    command = [sys.executable, "-c", code, str(run.path / "config.yaml"), str(tmp_path / "cache")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert sum(text.count("trained") for text in outputs) == 1
    sums = {text.partition("sum ")[2] for text in outputs}
    assert len(sums) == 1
    assert sums != {""}


def test_an_unreachable_accuracy_says_what_to_change(tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny(
        "lm", "domain.pretrain.target_accuracy=1", "domain.pretrain.max_steps=10"
    ).domain
    with pytest.raises(RuntimeError, match=r"max_steps=10, below domain\.pretrain\.target_acc"):
        reference_folder(settings, build_task(settings), tmp_path)


def test_an_interrupted_pretraining_continues_to_the_same_weights(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from suite.domains.language import pretraining as reference

    settings = tiny(
        "lm", "domain.pretrain.target_accuracy=0.001", "domain.pretrain.check_every=2"
    ).domain
    task = build_task(settings)
    accuracies = [0.0, 0.0, 1.0]
    monkeypatch.setattr(reference, "held_out_score", lambda *a, **k: accuracies.pop(0))
    whole = reference_folder(settings, task, tmp_path / "whole")

    accuracies = [0.0, 0.0, 1.0]
    steps = iter(range(10))
    one_step = reference.supervised_step

    def dying(*arguments: object) -> None:
        if next(steps) == 3:
            raise KeyboardInterrupt
        one_step(*arguments)

    monkeypatch.setattr(reference, "supervised_step", dying)
    with pytest.raises(KeyboardInterrupt):
        reference_folder(settings, task, tmp_path / "torn")
    monkeypatch.setattr(reference, "supervised_step", one_step)
    torn = reference_folder(settings, task, tmp_path / "torn")
    both = (AutoModelForCausalLM.from_pretrained(folder) for folder in (whole, torn))
    for a, b in zip(*(model.parameters() for model in both), strict=True):
        assert torch.equal(a, b)
