"""The boundary of docs/security.md: what is code, what is data, and what each may do."""

import ast
import json
import os
import random
import shutil
import sys
import zipfile
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from suite.cli import main
from suite.config.fields import ConfigError
from suite.config.loading import load
from suite.domains.language.loading import load_network
from suite.report.page import write_report
from suite.runs.folder import RunFolder
from suite.sweeps.slurm_executor import batch_script
from suite.sweeps.slurm_profile import load_profile
from suite.sweeps.spec import load_sweep
from tests.conftest import BASE, ROOT, SCHEDULE, TINY, Tiny
from tests.docs.standins import write_model


@pytest.mark.parametrize("method", ["train_dataloader", "feedback", "evaluate"])
def test_a_domain_that_exits_fails_the_run(
    method: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(*arguments: Any, **options: Any) -> None:
        sys.exit(0)

    monkeypatch.setattr(f"suite.domains.bandit.online.Bandit.{method}", leave)
    options = [*TINY["bandit"], *SCHEDULE, f"results_dir={tmp_path}"]
    assert main(["train", str(ROOT / BASE["bandit"]), *options]) == 1
    (path,) = tmp_path.glob("*/runs/*")
    summary = RunFolder(path).summary() or {}
    assert summary["status"] == "failed"
    assert "test_security.py, line" in summary["error"]
    assert "in leave: the code called sys.exit(0)" in summary["error"]


BAD_NAMES = ["../x", "/tmp/x", "..", ".", "a/b", "a\0b", "a\nb", "a\x1b[0m", "\u2028", "x" * 256]


@pytest.mark.parametrize("name", [*BAD_NAMES, "\ud800"])
def test_a_sweeps_name_cannot_leave_the_results(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sweep"):
        load(ROOT / BASE["bandit"], [("sweep", name), ("results_dir", str(tmp_path))])


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_task_or_a_variant_cannot_leave_the_results(
    name: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("bandit", results=tmp_path)
    for kind, attribute in ((config.domain, "task"), (config.objective, "variant")):
        with monkeypatch.context() as patch:
            value = property(lambda _: name) if attribute == "task" else lambda *_: name
            patch.setattr(type(kind), attribute, value)
            try:
                path = RunFolder.of(config).path
            except ConfigError:
                continue
            assert path.parent == tmp_path / config.sweep / "runs"
            assert path.name.isprintable()


def test_texts_of_a_profile_stay_on_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands in a profile or a name: refused, or the script has as many lines as ever."""
    monkeypatch.setattr("submitit.SlurmExecutor.affinity", lambda *_: 2)

    base = ROOT / BASE["bandit"]
    (tmp_path / "one.yaml").write_text(f"config: {base}\ngrids: {{a: {{seed: [0]}}}}\n")
    named_plainly = load_sweep(tmp_path / "one.yaml")

    def script(place: str = "", text: str = "") -> str:
        profile: dict[str, Any] = {"options": {"comment": "a", "nice": "1"}, "account": "a"}
        if place in ("account", "python", "container"):
            profile[place] = text
        elif place in ("comment", "option"):
            profile["options"] |= {"comment": text} if place == "comment" else {text: "1"}
        (tmp_path / "site.yaml").write_text(json.dumps(profile))
        named = named_plainly
        if place in ("sweep", "results_dir"):
            named = load_sweep(tmp_path / "one.yaml", size={place: text})
        return batch_script(named, load_profile(str(tmp_path / "site.yaml")))

    draw, plain = random.Random(0), len(script().splitlines())
    breaks = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\0", "\x1b", ""]
    places = ["account", "python", "container", "comment", "option", "sweep", "results_dir"]
    passed = 0
    for place in places:
        for mark in breaks:
            text = "".join(draw.choices("aZ0 '\"$`#;&|\\-=:%é", k=5)) + mark + "touch owned"
            if place == "option":
                text = f"nice{mark}touch"
            try:
                lines = script(place, text).splitlines()
            except ConfigError:
                continue
            passed += 1
            assert mark == "", (place, text)
            assert len(lines) == plain + (place == "option"), (place, text)
            assert not any(line.startswith("touch") for line in lines)
    assert passed == len(places), "text without control characters is taken"


@cache
def all_calls() -> dict[str, list[tuple[Path, ast.Call]]]:
    """Return the calls in the suite's source by the last name of what is called."""
    found: dict[str, list[tuple[Path, ast.Call]]] = defaultdict(list)
    for path in sorted((ROOT / "suite").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).rpartition(".")[2]
                found[name].append((path, node))
    return found


def calls(name: str) -> list[tuple[Path, ast.Call]]:
    """Return the calls of functions whose last name is this one."""
    return all_calls()[name]


def value_of(call: ast.Call, keyword: str) -> Any:
    """Return a keyword's constant value; None where it is not there."""
    values = [word.value for word in call.keywords if word.arg == keyword]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def owner(call: ast.Call) -> str:
    """Return what stands before the function's last name."""
    return ast.unparse(call.func).rpartition(".")[0]


def test_no_reader_of_data_runs_code() -> None:
    loads = [(path, call) for path, call in calls("load") if owner(call) == "torch"]
    assert len(loads) >= 4
    assert all(value_of(call, "weights_only") is True for _, call in loads), loads
    models = calls("from_pretrained")
    assert len(models) >= 4
    for path, call in models:
        is_safe = value_of(call, "trust_remote_code") is False
        assert is_safe or "Peft" in owner(call), (path, ast.unparse(call))
    for path, call in calls("load"):
        where = (path, ast.unparse(call))
        assert owner(call) not in ("pickle", "joblib", "dill", "marshal", "cloudpickle"), where
        assert owner(call) not in ("np", "numpy") or value_of(call, "allow_pickle") is False, where
        assert owner(call) != "yaml" or "PlainLoader" in ast.unparse(call), where
    for name in ("loads", "Unpickler", "unsafe_load", "full_load", "load_dataset_builder"):
        for path, call in calls(name):
            assert owner(call) == "json", (path, ast.unparse(call))
    for name in ("eval", "exec", "system", "popen", "compile"):
        for path, call in calls(name):
            is_builtin = isinstance(call.func, ast.Name) or owner(call) == "os"
            assert not is_builtin, (path, ast.unparse(call))
    for name in ("run", "Popen", "check_output", "check_call", "call"):
        assert not any(value_of(call, "shell") for _, call in calls(name))


class Payload:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_with_a_program_in_it_is_set_aside_and_not_run(
    tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from suite.train import train

    owned = tmp_path / "owned"
    config = tiny("bandit", results=tmp_path)
    folder = RunFolder.of(config)
    folder.checkpoints.mkdir(parents=True)
    torch.save({"step": 3, "run": config.run_name, "x": Payload(owned)}, folder.checkpoints / "a")
    with zipfile.ZipFile(folder.checkpoints / "a") as archive:
        assert archive.testzip() is None, "the file is whole"
    shutil.move(folder.checkpoints / "a", folder.checkpoints / "last.ckpt")
    assert train(config)["status"] == "finished"
    assert "last.ckpt is damaged" in caplog.text
    assert not owned.exists()
    torch.load(folder.checkpoints / "last.ckpt.damaged-1", weights_only=False)
    assert owned.exists(), "the test's payload works"


def test_weights_with_a_program_in_them_are_refused_and_it_is_not_run(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Payload(tmp_path / "owned")}, folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"domain.model=.*model"):
        load_network(AutoModelForCausalLM, str(folder), "domain.model")
    assert not (tmp_path / "owned").exists()


def test_a_models_own_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = write_model(tmp_path / "model")
    (folder / "own.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'owned')!r})\n")
    facts = json.loads((folder / "config.json").read_text())
    names = ("AutoConfig", "AutoModelForCausalLM")
    facts |= {"model_type": "own", "auto_map": {name: "own.Own" for name in names}}
    (folder / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match=r"domain.model="):
        load_network(AutoModelForCausalLM, str(folder), "domain.model")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "a ${oc.decode:x}", "${oc.env:${sweep}}"])
def test_a_configuration_cannot_publish_the_environment(value: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"domain: {{name: bandit}}\nlogging: {{project: '{value}'}}\n")
    with pytest.raises(ConfigError, match=r"project must not call a resolver"):
        load(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match=r"project must not call a resolver"):
        load(ROOT / BASE["bandit"], [f"logging.project={value}"])


def test_a_page_shows_the_texts_of_runs_and_never_executes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suite.report.page.image_of", lambda figure, suffix: b"image")
    attack = "</td><script>alert(1)</script><img src=x onerror=alert(1)>[a](javascript:alert(1))"
    grids = "{a: {feedback: [positive, mixed], seed: [0, 1]}}"
    report = json.dumps({"title": attack, "question": attack, "score": attack})
    (tmp_path / "mine.yaml").write_text(
        f"config: {ROOT}/configs/bandit/sphere.yaml\ngrids: {grids}\nreport: {report}\n"
    )
    sweep = load_sweep(tmp_path / "mine.yaml", [f"results_dir={tmp_path}/results"])
    for number, config in enumerate(sweep.points.values()):
        run = RunFolder.of(config)
        run.create(config)
        run.log_metrics(10, {"eval/score": 1.0, "eval/kl": 0.5})
        run.write_examples(10, [{"prompt": attack, "completion": attack, "score": 1.0}])
        run.finish("failed" if number == 0 else "finished", attack if number == 0 else None)
    html = write_report(sweep, f"suite sweep {attack}").read_text()
    assert "alert(1)" in html
    for marked in ("<script>alert", "<img src=x", 'href="javascript:'):
        assert marked not in html
