import base64
import re

import numpy as np
import pytest
from report_examples import a_failed_report, a_report, passed_stages

from trtyard.core.errors import UsageError
from trtyard.core.files import write_json
from trtyard.core.report import Stage, check_report
from trtyard.core.report_json import report_value
from trtyard.pipeline.overlay import draw_overlay
from trtyard.pipeline.parity.padded import Detections
from trtyard.report.pages import make_pages


def write(report, folder):
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", report_value(report))


def test_pages_are_written_next_to_the_report(tmp_path, capsys):
    write(a_report(), tmp_path)
    make_pages([str(tmp_path)])
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "junit.xml", "report.html", "report.json",
    ]  # fmt: skip
    assert "<img" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert capsys.readouterr().out == f"{tmp_path}/report.html\n"


def test_overlay_is_inside_the_page(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    empty = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), 100)
    draw_overlay(rgb, (1, 1), {"torch": empty}, tmp_path / "overlay.png")
    write(a_report(overlay="overlay.png"), tmp_path)
    make_pages([str(tmp_path)])
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    inside = re.search(r'src="data:image/png;base64,([^"]+)"', html).group(1)
    assert base64.b64decode(inside) == (tmp_path / "overlay.png").read_bytes()


def test_missing_overlay_leaves_the_page_without_a_picture(tmp_path):
    write(a_report(overlay="overlay.png"), tmp_path)
    make_pages([str(tmp_path)])
    assert "<img" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_contradictory_report_is_refused():
    bad = a_report(stages=passed_stages(export=Stage("export", "not-run")))
    with pytest.raises(ValueError, match="has no reason"):
        check_report(bad)


def test_pages_are_reproducible(tmp_path):
    for folder in ("one", "two"):
        write(a_report(), tmp_path / folder)
        make_pages([str(tmp_path / folder)])
    for name in ("report.json", "report.html", "junit.xml"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_several_reports_get_an_index(tmp_path, capsys):
    write(a_report(), tmp_path / "rtx-1.7" / "faster_rcnn")
    write(a_report(row="8.6"), tmp_path / "8.6" / "faster_rcnn")
    write(a_failed_report()._replace(model="net"), tmp_path / "8.6" / "net")
    make_pages([str(tmp_path)])
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'href="([^"]+)"', html) == [
        "8.6/faster_rcnn/report.html", "rtx-1.7/faster_rcnn/report.html", "8.6/net/report.html",
    ]  # fmt: skip
    assert "2 of 3 passed" in html
    assert len(re.findall("not run: TensorRT", html)) == 2
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "index.html")


def test_index_names_the_folders_of_one_model_and_row(tmp_path):
    for name in ("net-fp16-1", "net-fp16-2"):
        write(a_report(), tmp_path / name)
    make_pages([str(tmp_path)])
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.findall(r">(net-fp16-\d)</a>", html) == ["net-fp16-1", "net-fp16-2"]
    assert ">report</a>" not in html


def test_index_links_are_relative_to_the_index(tmp_path):
    write(a_report(), tmp_path / "a")
    make_pages([str(tmp_path / "a" / "report.json")], out=str(tmp_path / "b" / "all.html"))
    assert 'href="../a/report.html"' in (tmp_path / "b" / "all.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not a report"),
        ('{"schema": 1}', "has schema 1, expected 2"),
        ("[]", "schema None"),
    ],
)
def test_invalid_report_writes_nothing(tmp_path, content, said):
    write(a_report(), tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "report.json").write_text(content)
    with pytest.raises(UsageError, match=said):
        make_pages([str(tmp_path)])
    assert not list(tmp_path.rglob("*.html"))


def test_folder_without_a_report_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no report\.json in"):
        make_pages([str(tmp_path)])
    with pytest.raises(UsageError, match="gone does not exist"):
        make_pages([str(tmp_path / "gone")])
