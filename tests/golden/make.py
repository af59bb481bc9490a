"""Make the golden files of tests/test_golden.py: names and metrics of runs, and reports.

    python -m tests.golden.make names runs report begun job

They were made once, before the package was reorganised. Make one of them again only if its content
must change, and give the reason in the commit message. The suite is started by its command line;
only the names and the pickled job need imports of the suite.
"""

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from submitit.core.utils import DelayedSubmission

from suite.config.loading import load
from suite.paper.claims import load_claims, sweeps_of
from suite.sweeps.spec import load_sweep
from suite.sweeps.worker import run_worker

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOMAINS = sorted(path.stem for path in (HERE / "runs").glob("*.yaml"))
PATIENCE = 600.0  # seconds; the slowest process takes thirty on an idle core
HALF = 8  # the step of the checkpoints in half/
QUEUED = "1_submitted.pkl"  # a job's name is its id
KEPT = (
    *("config.yaml", "metrics.jsonl", "environment.json", "attempts.jsonl", "progress.json"),
    *("log.txt", "summary.json"),
)
Job = tuple[Path, Sequence[str]]


def pinned() -> dict[str, str]:
    """Return an environment in which sums do not depend on the model of the x86-64 processor.

    Each library chooses its instructions by the processor. The choices of PyTorch's own loops, MKL
    and NumPy's loops do change the numbers here; those of oneDNN, OpenBLAS and the C library's
    mathematical functions might.
    """
    simd_features = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return os.environ | {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "NPY_DISABLE_CPU_FEATURES": " ".join(simd_features),
        "OPENBLAS_CORETYPE": "Nehalem",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }


def start(where: Path, *arguments: str, **settings: str) -> "subprocess.Popen[str]":
    """Start Python in a folder, with further environment variables."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=where,
        env=pinned() | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    """Wait for a process to end with this exit code; return its output."""
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.terminate()  # a sweep then ends its workers
        raise
    assert process.returncode == code, output
    return output


def suite(where: Path, *arguments: str) -> str:
    """Run `suite …` in a folder; return its output."""
    return finish(start(where, "-m", "suite", *arguments))


def together(jobs: Sequence[Job]) -> None:
    """Run command lines of the suite one after another, each in a process of its own."""
    argument = json.dumps([[str(where), list(arguments)] for where, arguments in jobs])
    output = finish(start(ROOT, str(ROOT / "tests/together.py"), argument))
    for code, job_output in json.loads(output.splitlines()[-1]):
        assert code == 0, job_output


def train(where: Path, domain: str, sweep: str) -> Job:
    """Return the command line of a domain's tiny run."""
    config = str(HERE / f"runs/{domain}.yaml")
    return where, ["train", config, "results_dir=results", f"sweep={sweep}"]


def run_of(where: Path, domain: str, sweep: str) -> Path:
    """Return the folder of a domain's tiny run, found by its configuration."""
    folders = (where / "results" / sweep / "runs").iterdir()
    name = f"\n  name: {domain}\n"
    (run,) = [folder for folder in folders if name in (folder / "config.yaml").read_text()]
    return run


def names() -> str:
    """Return the names of all runs: one line per prefix, with the signatures in order."""
    sections = {
        "configurations": [
            load(path).run_name
            for path in sorted((ROOT / "configs").glob("*/*.yaml"))
            if path.parent.name != "sweeps"
        ]
    }
    for path in sorted((ROOT / "configs/sweeps").glob("*.yaml")):
        sections[path.stem] = list(load_sweep(path).points)
    for claim in load_claims():
        for size in ("small", "full", "large"):
            for name, sweep in sweeps_of(claim, size, []).items():
                if size in claim.sweeps[name]:
                    sections[f"{name}, {size}"] = list(sweep.points)
    lines = []
    for title, run_names in sections.items():
        lines.append(f"# {title}")
        grouped: dict[str, list[str]] = {}
        for name in run_names:
            prefix, _, signature = name.rpartition("-")
            grouped.setdefault(prefix, []).append(signature)
        lines += [" ".join([prefix, *signatures]) for prefix, signatures in grouped.items()]
    return "\n".join(lines) + "\n"


def keep(run: Path, target: Path) -> None:
    """Copy the small files of a run."""
    target.mkdir(parents=True)
    for name in KEPT:
        if (run / name).exists():
            shutil.copy(run / name, target / name)


def make_names(where: Path) -> None:
    """Write the names of all runs."""
    (HERE / "names.txt").write_text(names())


def make_runs(where: Path) -> None:
    """Write the metrics of each domain's run, and the run as it is after a kill at half time."""
    shutil.rmtree(HERE / "half", ignore_errors=True)
    for domain in DOMAINS:
        folder, arguments = train(where, domain, "half")
        suite(folder, *arguments)
        run = run_of(where, domain, "half")
        lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
        (HERE / f"runs/{domain}.jsonl").write_text("".join(lines))
        half = HERE / "half/runs" / run.name
        keep(run, half)
        before = [line for line in lines if json.loads(line)["step"] <= HALF]
        incomplete = lines[len(before)][:20]
        (half / "metrics.jsonl").write_text("".join([*before, incomplete]))
        (half / "summary.json").unlink()
        first, *_ = (run / "log.txt").read_text().splitlines(keepends=True)
        (half / "log.txt").write_text(first)
        (half / "checkpoints").mkdir()
        shutil.copy(run / "checkpoints/previous.ckpt", half / "checkpoints/last.ckpt")


def make_report(where: Path) -> None:
    """Write a finished sweep and its report."""
    source = HERE / "report"
    copy_sweep(source, where)
    suite(where, "sweep", "tiny.yaml", "--parallel", "1")
    for name in ("results", "expected"):
        shutil.rmtree(source / name, ignore_errors=True)
    for run in sorted((where / "results/tiny/runs").iterdir()):
        keep(run, source / "results/tiny/runs" / run.name)
    again = where / "again"
    copy_sweep(source, again)
    suite(again, "report", "tiny.yaml")
    for name, text in report(again / "results/tiny").items():
        path = source / "expected" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def report(folder: Path) -> dict[str, str]:
    """Return the texts of a report by file name.

    The page is without its images, which depend on the build of Matplotlib. Their numbers are
    compared as CSV.
    """
    texts = {name: (folder / name).read_text() for name in ("scores.csv", "report.md")}
    page = (folder / "report.html").read_text()
    texts["report.html"] = re.sub(r"(data:image/[a-z+]+;base64,)[\w+/=]+", r"\1…", page)
    figures = {f"figures/{path.name}": path.read_text() for path in folder.glob("figures/*.csv")}
    return texts | figures


def copy_sweep(source: Path, where: Path) -> None:
    """Copy a sweep's files, and its runs if there are any."""
    where.mkdir(exist_ok=True)
    for path in source.glob("*.yaml"):
        shutil.copy(path, where)
    if (source / "results").exists():
        shutil.copytree(source / "results", where / "results")


def make_begun(where: Path) -> None:
    """Write a sweep whose third run a signal stopped, and the metrics of that run if whole."""
    source = HERE / "begun"
    for name in ("results", "expected.jsonl"):
        shutil.rmtree(source / name, ignore_errors=True)
    copy_sweep(source, where)
    process = start(where, "-m", "suite", "sweep", "tiny.yaml", "--parallel", "1")
    runs = where / "results/tiny/runs"
    while not any('"step": 800,' in path.read_text() for path in runs.glob("*-mixed-*/metrics.j*")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    finish(process, code=130)
    for run in sorted(runs.iterdir()):
        keep(run, source / "results/tiny/runs" / run.name)
    (stopped,) = runs.glob("*-mixed-*")
    checkpoint = Path("checkpoints/last.ckpt")
    kept = source / "results/tiny/runs" / stopped.name / checkpoint
    kept.parent.mkdir()
    shutil.copy(stopped / checkpoint, kept)
    suite(where, "train", "base.yaml")
    (whole,) = (where / "results/base/runs").iterdir()
    assert whole.name == stopped.name
    shutil.copy(whole / "metrics.jsonl", source / "expected.jsonl")


def make_job(where: Path) -> None:
    """Write the file of a job queued by submitit, and its run's folder."""
    shutil.rmtree(HERE / "job", ignore_errors=True)
    folder, arguments = train(where, "bandit", "queued")
    suite(folder, *arguments)
    run = run_of(where, "bandit", "queued")
    kept = HERE / "job" / run.relative_to(where)
    kept.mkdir(parents=True)
    shutil.copy(run / "config.yaml", kept)
    job = DelayedSubmission(run_worker, [run.relative_to(where)])
    job.set_timeout(60, 10)
    job.dump(HERE / "job" / QUEUED)


PARTS = {
    "names": make_names,
    "runs": make_runs,
    "report": make_report,
    "begun": make_begun,
    "job": make_job,
}

if __name__ == "__main__":
    assert platform.machine() == "x86_64", "elsewhere sums round differently"
    for part in sys.argv[1:]:
        with TemporaryDirectory() as folder:
            PARTS[part](Path(folder))
