"""Every command that the README shows is one that this trtyard takes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "trtyard" / "__main__.py"
HAVE_DRY_RUN = {"convert", "build"}


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


@pytest.mark.parametrize("page", [*PAGES, *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_links_lead_somewhere(page):
    file = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)\)", file.read_text()):
        assert (file.parent / target).exists(), target
