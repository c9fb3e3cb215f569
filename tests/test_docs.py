"""What the documentation says is what the code does."""

import importlib.util
import re
from pathlib import Path

import pytest

from lrpilot.schedules import NAMED_SCHEDULES
from lrpilot.schedules.learned.features import NAMES
from lrpilot.schedules.learned.policy import BASES

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
generate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generate)


@pytest.mark.parametrize("name", generate.PAGES)
def test_a_generated_page_is_fresh(name):
    written = (ROOT / "docs" / name).read_text()
    assert written == generate.PAGES[name](), "run docs/generate.py"


def test_every_schedule_is_documented():
    text = (ROOT / "docs" / "schedules.md").read_text()
    missing = [name for name in NAMED_SCHEDULES if f"`{name}`" not in text]
    assert missing == []


def test_the_readme_is_short_and_its_python_runs():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 120
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)


@pytest.mark.parametrize("page", ["schedules.md", "torch.md", "nmf.md", "learned.md"])
def test_the_first_example_of_a_page_runs(page):
    text = (ROOT / "docs" / page).read_text()
    first = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]
    exec(compile(first, page, "exec"), {})


def test_what_a_policy_sees_is_documented_by_name():
    text = (ROOT / "docs" / "learned.md").read_text()
    table = text.split("## What it sees")[1].split("##")[0]
    assert re.findall(r"^\| ([a-z ]+) \|", table, flags=re.MULTILINE)[1:] == list(NAMES)
    assert [f"`{base}`" for base in BASES] == re.findall(r"one of (.*) \|", text)[0].split(", ")


def test_links_between_pages_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
