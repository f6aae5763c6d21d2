import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from report_examples import a_report, passed_stages

from trtyard.pipeline.parity.padded import Detections
from trtyard.pipeline.report import draw_overlay, write_report
from trtyard.pipeline.stages import Stage


def test_three_files_are_written_and_nothing_else(tmp_path):
    write_report(a_report(), tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "junit.xml", "report.html", "report.json",
    ]  # fmt: skip
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["schema"] == 1
    assert "<img" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_overlay_is_inside_the_page(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    empty = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), 100)
    draw_overlay(rgb, (1, 1), {"torch": empty}, tmp_path / "overlay.png")
    write_report(a_report(overlay="overlay.png"), tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    inside = re.search(r'src="data:image/jpeg;base64,([^"]+)"', html).group(1)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(inside)))).astype(int)
    with Image.open(str(tmp_path / "overlay.png")) as drawn:
        difference = np.abs(shown - np.asarray(drawn).astype(int))
    assert difference.mean() < 5


def test_report_that_contradicts_itself_writes_nothing(tmp_path):
    bad = a_report(stages=passed_stages(export=Stage("export", "not-run")))
    with pytest.raises(ValueError, match="does not say why"):
        write_report(bad, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_overlay_writes_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_report(a_report(overlay="overlay.png"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_written_twice_the_files_are_the_same(tmp_path):
    for folder in ("one", "two"):
        write_report(a_report(), tmp_path / folder)
    for name in ("report.json", "report.html", "junit.xml"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
