"""Whether the files of a run are whole and belong together: `suite verify`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from suite.config.fields import ConfigError
from suite.config.schema import Config
from suite.runs.checkpoints import LAST, Checkpoint, checkpoint_files, read_checkpoint
from suite.runs.folder import DIGESTS, RunFolder, is_event
from suite.runs.resume import check_summary
from suite.system.files import digest

STATUSES = ("finished", "failed")
JSON_FILES = ("environment.json", "progress.json", "examples.json", "summary.json")


def verify(path: Path) -> list[str]:
    """Return what is wrong with the run in a folder, one line per finding; changes no file.

    Raises ConfigError where the folder is no run.
    """
    run = RunFolder(path)
    if not any((path / name).exists() for name in ("config.yaml", "checkpoints", "metrics.jsonl")):
        raise ConfigError(f"{path}: is no run's folder; those are results/SWEEP/runs/RUN")
    findings: list[str] = []
    config = None
    try:
        config = run.config()
        if config.run_name != path.resolve().name:
            findings.append(f"config.yaml is of the run {config.run_name}")
    except ConfigError as error:
        findings.append(str(error))
    for part in (json_findings, checkpoint_findings, summary_findings, policy_findings):
        try:
            findings += part(run)
        except OSError as error:
            findings.append(f"cannot be read: {error}")
    try:
        findings += metrics_findings(run, config)
    except OSError as error:
        findings.append(f"metrics.jsonl cannot be read: {error}")
    return findings


def json_findings(run: RunFolder) -> Iterator[str]:
    """Yield the JSON files that hold no object of finite numbers."""
    for name in JSON_FILES:
        path = run.path / name
        if path.exists():
            _, problem = parsed(path.read_bytes())
            if problem:
                yield f"{name}: {problem}"
    if run.attempts_path.exists():
        for number, line in enumerate(run.attempts_path.read_bytes().splitlines(), 1):
            row, problem = parsed(line)
            if problem or not is_event(row):
                yield f"attempts.jsonl, line {number}: {problem or 'has no what and step'}"


def metrics_findings(run: RunFolder, config: Config | None) -> Iterator[str]:
    """Yield the rows of metrics that are broken or out of order."""
    content = run.metrics_path.read_bytes() if run.metrics_path.exists() else b""
    last = 0
    for number, line in enumerate(content.splitlines(), 1):
        row, problem = parsed(line)
        step = row.get("step")
        if problem:
            yield f"metrics.jsonl, line {number}: {problem}"
        elif not isinstance(step, int):
            yield f"metrics.jsonl, line {number}: step must be a whole number, found {step!r}"
        else:
            if step < last:
                yield f"metrics.jsonl, line {number}: step {step} follows step {last}"
            if config is not None and step > config.trainer.steps:
                yield (
                    f"metrics.jsonl, line {number}: step {step} lies beyond"
                    f" trainer.steps={config.trainer.steps}"
                )
            last = step
    if content and not content.endswith(b"\n"):
        yield "metrics.jsonl: the last row is not whole"


def checkpoint_findings(run: RunFolder) -> Iterator[str]:
    """Yield damaged checkpoints, those of other runs, and rows of metrics that one misses."""
    whole: list[Checkpoint] = []
    for path in checkpoint_files(run.checkpoints):
        name = f"checkpoints/{path.name}"
        found = read_checkpoint(path)
        if found is None:
            yield f"{name} is damaged"
        elif found.run not in (None, run.path.resolve().name):
            yield f"{name} is of the run {found.run}"
        else:
            whole.append(found)
    for found in whole:
        if found.metrics is not None and not run.metrics_file.fits(found.metrics):
            rows, name = found.metrics["rows"], found.path.name
            yield f"metrics.jsonl does not begin with the {rows} rows of checkpoints/{name}"
    steps = {found.path.name: found.step for found in whole}
    if steps.get(LAST, 0) < max(steps.values(), default=0):
        yield f"checkpoints/{LAST} is not the newest one"
    if not whole and any(row.get("step") for row in run.metrics()):
        yield "no checkpoint is whole, and rows of metrics are there"


def summary_findings(run: RunFolder) -> Iterator[str]:
    """Yield how the summary differs from the metrics."""
    summary = run.summary()
    if summary is None:
        return
    status = summary.get("status")
    if status not in STATUSES:
        yield f"summary.json: status must be {' or '.join(STATUSES)}, found {status!r}"
    elif status == "finished":
        try:
            check_summary(run)
        except ConfigError as error:
            yield str(error)


def policy_findings(run: RunFolder) -> Iterator[str]:
    """Yield the files of a finished run's policy that are missing, changed or added."""
    folder, sums = run.path / "policy", run.path / DIGESTS
    if (run.summary() or {}).get("status") != "finished":
        return
    if not folder.is_dir():
        yield "policy is missing"
        return
    if not sums.exists():  # a run of an earlier version
        return
    there = {p.relative_to(run.path).as_posix() for p in folder.rglob("*") if p.is_file()}
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        expected, _, name = line.partition("  ")
        if name not in there:
            yield f"{name or line} is missing"
        elif digest(run.path / name) != expected:
            yield f"{name} is not as it was written"
        there.discard(name)
    yield from (f"{name} was added" for name in sorted(there))


def parsed(content: bytes) -> tuple[dict[str, Any], str]:
    """Return a JSON object and no problem, or an empty one and the problem."""
    try:
        values = json.loads(content, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        return {}, f"is not valid JSON: {error}"
    if not isinstance(values, dict):
        return {}, f"must hold a JSON object, found {type(values).__name__}"
    return values, ""


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and infinities, which JSON does not have."""
    raise ValueError(f"{name} is no number")
