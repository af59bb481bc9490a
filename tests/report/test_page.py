"""The HTML report in a real browser: what it shows, what it does, and that it asks for nothing."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from suite.report.page import write_report
from suite.runs.folder import RunFolder
from suite.sweeps.spec import Sweep, load_sweep
from tests.conftest import ROOT

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium: `make test-pages` installs it"),
]
# Ahead of the page's own script, and behind it; what the second returns ends in the page's title.
WATCH = """<script>
window.complaints = [];
addEventListener("error", e => complaints.push("error: " + e.message));
addEventListener("securitypolicyviolation", e => complaints.push("request: " + e.blockedURI));
const said = console.error; console.error = (...x) => { complaints.push(String(x)); said(...x); };
</script>"""
ASK = """<script>addEventListener("load", () => {{
const found = (() => {{ {script} }})();
const asked = performance.getEntriesByType("resource").map(e => e.name)
  .filter(name => !name.startsWith("data:"));
const sections = [...document.querySelectorAll("h2")].map(h => h.textContent);
document.title = JSON.stringify({{found, complaints, asked, sections}});
}});</script>"""
ROWS = 'const names = () => [...document.querySelectorAll("#runs tbody tr:not([hidden])")];'
SCORES = "names().map(r => r.cells[8].textContent)"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Finished runs, one that failed, and one that was not begun."""
    folder = tmp_path_factory.mktemp("page")
    path = folder / "mine.yaml"
    base = ROOT / "configs/bandit/sphere.yaml"
    grids = """
  a: {feedback: [positive, mixed], domain.function: [sphere, schwefel], seed: [0, 1, 2]}
  b: {objective.alpha: [0, 0.5], objective.beta: [0, 1, 2], seed: [7, 8]}"""
    report = "{title: A page, beta_grid: b, normalize: [0, 20]}"
    path.write_text(f"config: {base}\ngrids: {grids}\nreport: {report}\n")
    made = load_sweep(path, [f"results_dir={folder}/results"])
    for number, config in enumerate(made.points.values()):
        run = RunFolder.of(config)
        run.create(config)
        if number == 5:
            continue
        run.begin()
        run.report_progress(step=10)
        for step in (0, 5, 10):
            score = step * (1 + config.seed / 10) + number / 100
            run.log_metrics(
                step, {"eval/score": score, "eval/kl": step / 10, "eval/judge_score": score}
            )
        run.log_path.write_text("it began\nit said <b>this</b>\n")
        failed = number == 4
        run.finish("failed" if failed else "finished", "it broke" if failed else None)
        run.write_examples(10, [{"prompt": "1+1=", "completion": "2", "score": 1.0}])
    write_report(made, "suite sweep mine")
    return made


def browse(page: Path, script: str, tmp_path: Path, *flags: str) -> dict[str, Any]:
    """Open a page, run a script when it is loaded, and return what that found."""
    text = page.read_text()
    text = text.replace("<head>", f"<head>{WATCH}", 1)
    text = text.replace("</body>", ASK.format(script=script) + "</body>", 1)
    copy = tmp_path / "page.html"
    copy.write_text(text)
    assert BROWSER is not None
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"),
        *(f"--user-data-dir={tmp_path}/profile", *flags, "--dump-dom", copy.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout, re.S)
    assert title, done.stdout[:2000] + done.stderr
    found: dict[str, Any] = json.loads(html.unescape(title[1]))
    assert found["complaints"] == []
    assert found["asked"] == [], "a request left the page"
    return found


def test_every_section_is_there_and_every_figure_has_its_numbers(
    sweep: Sweep, tmp_path: Path
) -> None:
    script = """return [...document.querySelectorAll("figure.chart")].map(f => ({
        name: f.id, drawn: f.querySelector("img").naturalWidth > 0,
        rows: f.querySelectorAll("table tr").length,
        files: [...f.querySelectorAll("a[download]")].map(a => a.download),
        csv: atob(f.querySelector('a[download$=".csv"]').href.split(",")[1]).split("\\n")[0]}));"""
    found = browse(sweep.folder / "report.html", script, tmp_path)
    assert found["sections"] == [
        "Learning curves", "Final scores", "All tasks together", "Probability of improvement",
        "How large must β be?", "What the judge saw, and what was there", "What else moved",
        "What the policies said", "Runs", "How this was made",
    ]  # fmt: skip
    figures = {figure["name"]: figure for figure in found["found"]}
    assert set(figures) == {"learning_curves", "profiles", "beta_map", "judges", "diagnostics"}
    for name, figure in figures.items():
        assert figure["drawn"]
        assert figure["rows"] > 3
        assert figure["files"] == [f"{name}.png", f"{name}.svg", f"{name}.csv"]
        assert (sweep.folder / f"figures/{name}.csv").read_text().startswith(figure["csv"])
    assert figures["learning_curves"]["csv"] == "task,variant,step,runs,score,low,high"


def test_runs_are_sorted_filtered_and_linked(sweep: Sweep, tmp_path: Path) -> None:
    script = f"""{ROWS}
        const before = names().length;
        const button = document.querySelectorAll("#runs th button")[8];
        button.click(); const up = {SCORES};
        button.click(); const down = {SCORES};
        const input = document.getElementById("filter");
        input.value = "mixed seed1"; input.dispatchEvent(new Event("input"));
        const left = names().map(r => r.cells[0].querySelector("summary").textContent);
        const told = document.getElementById("shown").textContent;
        input.value = "it broke"; input.dispatchEvent(new Event("input"));
        const broken = names().map(r => r.cells[0].textContent);
        const links = [...document.querySelectorAll("#runs a")].map(a => a.getAttribute("href"));
        return {{before, up, down, left, told, broken, links}};"""
    found = browse(sweep.folder / "report.html", script, tmp_path)["found"]
    assert found["before"] == len(sweep.points) == 24
    scores = [float(score) for score in found["up"] if score]
    assert scores == sorted(scores)
    assert len(scores) == 23
    assert found["up"][-1] == "", "a run without a score comes last"
    assert [float(score) for score in found["down"] if score] == scores[::-1]
    assert len(found["left"]) == 2
    assert all("mixed" in name and "seed1" in name for name in found["left"])
    assert found["told"] == "2 of 24 runs"
    (broken,) = found["broken"]
    assert "it broke" in broken
    assert "it said <b>this</b>" in broken
    for link in found["links"]:
        missing = link.endswith("log.txt") and not (sweep.folder / link).exists()
        assert (sweep.folder / link).exists() or missing
    assert sum(link.endswith("config.yaml") for link in found["links"]) == 24


def test_it_fits_a_phone_and_is_dark_in_the_dark(sweep: Sweep, tmp_path: Path) -> None:
    script = """return {wide: document.documentElement.scrollWidth - innerWidth, inner: innerWidth,
        paper: getComputedStyle(document.body).backgroundColor};"""
    page = sweep.folder / "report.html"
    bright = browse(page, script, tmp_path, "--window-size=500,900")["found"]
    assert bright["inner"] <= 500
    assert bright["wide"] <= 0, "the page scrolls sideways"
    assert bright["paper"] == "rgb(255, 255, 255)"
    dark = browse(page, script, tmp_path, "--blink-settings=preferredColorScheme=0")["found"]
    assert dark["paper"] == "rgb(22, 24, 28)"


def test_it_prints_without_what_only_a_screen_can_use(sweep: Sweep, tmp_path: Path) -> None:
    assert BROWSER is not None
    target = tmp_path / "page.pdf"
    page = (sweep.folder / "report.html").as_uri()
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"),
        *(f"--user-data-dir={tmp_path}/profile", f"--print-to-pdf={target}", page),
    ]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert target.read_bytes()[:4] == b"%PDF"
    pages = len(re.findall(rb"/Type\s*/Page\b", target.read_bytes()))
    assert 2 <= pages <= 8
