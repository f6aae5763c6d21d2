"""The commands, options and links of the documentation are valid."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from invoke.collection import Collection

import tasks as tasks_module

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "trtyard" / "__main__.py"
HAVE_DRY_RUN = {"convert", "build"}


tasks = {one.name: one for one in Collection.from_module(tasks_module).to_contexts()}


def commands():
    lines = re.findall(r"^    \./run (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    return [line.split("  ")[0].split(" #")[0].strip() for line in lines]


def test_the_readme_shows_the_two_commands():
    assert {"convert --model faster_rcnn", "test"} <= set(commands())


@pytest.mark.parametrize("line", commands())
def test_readme_commands_are_valid(line, tmp_path):
    words = shlex.split(line)
    for option in ("--weights", "--image"):
        if option in words:
            (tmp_path / words[words.index(option) + 1]).write_bytes(b"anything: it is not opened")
    (tmp_path / "net.py").write_text("")
    (tmp_path / "net.onnx").write_bytes(b"anything: it is not read")
    words = [*words, "--dry-run"] if words[0] in HAVE_DRY_RUN else [words[0], "--help"]
    done = subprocess.run(
        [sys.executable, "-I", str(MAIN), *words], cwd=tmp_path, capture_output=True, text=True
    )
    if words[0] == "build" and done.returncode == 3:
        assert "ocker" in done.stderr  # no engine on this machine, and it says so
        return
    assert done.returncode == 0, done.stderr


PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]


def anchors(file):
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in found}


@pytest.mark.parametrize("page", [*PAGES, *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_links_lead_somewhere(page):
    file = ROOT / page
    for link in re.findall(r"\]\(([^):]+)\)", file.read_text()):
        name, _, anchor = link.partition("#")
        target = file.parent / name if name else file
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", [*PAGES, *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_commands_have_the_options_that_a_page_shows(page):
    text = (ROOT / page).read_text().replace("\\\n", " ")
    for shown in re.findall(r"\./run ((?:row )?[a-z]+ [^`\n|&]*)", text):
        task, *words = shown.split("  #")[0].split(" -- ")[0].split()
        task = f"{task} {words.pop(0)}" if task == "row" else task
        known = tasks[task].flags
        given = [re.split(r"[=,.;:)]", one)[0] for one in words if re.match("--[a-z]", one)]
        assert [one for one in given if one not in known and one != "--help"] == [], shown
