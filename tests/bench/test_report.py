"""The page, as text and as a browser draws it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lrpilot.bench import Plan, cells, rows, run_trial
from lrpilot.bench.comparison.report import write_report
from lrpilot.bench.page import check_page

STORE = Path("runs.db")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# No network at all: every address is sent to a port where nobody listens.
HEADLESS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--proxy-server=127.0.0.1:9",
    "--window-size=1280,1500",
    "--virtual-time-budget=10000",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page over one task with a grid of rates, with a name that HTML would read as markup."""
    plan = Plan(
        tasks=["noisy-quadratic"],
        schedules=["greedy", "cosine", "constant"],
        optimizers=["sgd"],
        lrs=[0.001, 0.01, 1e30],
        seeds=2,
        steps=50,
    )
    found = cells((trial, run_trial(trial, lambda share: None)) for trial in plan.trials)
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, found, rows(found), command="lrpilot compare <script>alert(1)</script>")
    return path


@pytest.fixture(scope="module")
def drawn(page, tmp_path_factory):
    """The page's elements after the browser has run it."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    profile = tmp_path_factory.mktemp("profile")
    return subprocess.run(
        [CHROMIUM, *HEADLESS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


def test_the_page_asks_for_nothing_from_outside(page):
    markup = re.sub(r"<script.*?</script>", "", page.read_text(), flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!#)""", markup)


def test_what_the_user_typed_is_text_not_markup(page):
    assert "<script>alert(1)</script>" not in page.read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.read_text()


def test_the_table_has_a_line_per_schedule(page):
    markup = page.read_text()
    (table,) = re.findall(r"<table>.*?</table>", markup)
    assert re.findall(r"<tr><td>([a-z]+)</td>", table) != []
    assert set(re.findall(r"<tr><td>([a-z]+)</td>", table)) == {"greedy", "cosine", "constant"}


def test_the_browser_draws_every_curve_with_labelled_axes(drawn):
    # Three schedules in four panels: validation, training, rate, loss by base rate.
    assert len(re.findall(r'class="trace scatter', drawn)) == 12
    for label in ("optimizer steps", "learning rate", "base learning rate", "excess loss"):
        assert re.search(rf'class="[xy]\d?title"[^>]*>[^<]*{label}', drawn), label


def test_the_legend_stands_beside_the_curves(drawn):
    legend = re.search(r'<g class="legend"[^>]*translate\(([\d.]+),', drawn)
    panels = re.findall(
        r'class="nsewdrag drag"[^>]* x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', drawn
    )
    assert len(panels) == 4
    assert float(legend.group(1)) >= max(float(x) + float(width) for x, width in panels)


def test_a_page_that_cannot_be_written_is_refused_beforehand(tmp_path):
    check_page(tmp_path / "report.html", STORE)
    with pytest.raises(ValueError, match=r"is not a writable folder; choose another --report"):
        check_page(tmp_path / "nowhere" / "report.html", STORE, "--report")
    with pytest.raises(ValueError, match=r"it is a folder"):
        check_page(tmp_path, STORE)


def test_a_file_that_is_not_a_page_is_not_replaced(tmp_path, page):
    check_page(page, STORE)
    (tmp_path / "train.py").write_text("def train(trial): ...")
    with pytest.raises(ValueError, match=r"is not a page, so it would be lost; choose another"):
        check_page(tmp_path / "train.py", STORE)
