"""Packages that a model needs: --with, requirements.txt, a block in the model's file."""

import pytest

from trtyard.core.errors import UsageError
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.run.overlay_resolving import refuse_contradicting, refuse_unfit
from trtyard.run.requirements import read_requirements

BLOCK = """import os
# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "timm==1.0.31",
#
#     "einops>0.6",
# ]
# ///
def make(): ...
"""


@pytest.fixture
def nets(tmp_path):
    """Return a function that writes a model's file with this text."""

    def write(text):
        file = tmp_path / "nets.py"
        file.write_text(text)
        return file

    return write


def of_words(*words, model="nets.py:make"):
    return read_requirements(model, words, None)


def test_requirements_are_sorted_and_each_once():
    assert of_words("timm ==1.0", "einops", "timm==1.0").texts == ("einops", "timm==1.0")
    assert not read_requirements("alexnet", None, None)


def test_requirements_file_may_have_comments_and_blank_lines(tmp_path):
    file = tmp_path / "my requirements.txt"
    file.write_text("# for nets.py\n\ntimm>=1,<2  # models\neinops[extra] ; python_version>'3'\n")
    assert of_words(str(file)).texts == ('einops[extra]; python_version > "3"', "timm<2,>=1")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("-r other.txt", "options are not supported"),
        ("--index-url https://example.org/simple", "options are not supported"),
        ("--extra-index-url=https://example.org/simple", "options are not supported"),
        ("timm==1.0 --hash=sha256:00", "options are not supported"),
        ("timm==1.0 \\", "options are not supported"),
        ("-e ./mine", "options are not supported"),
        ("timm @ https://example.org/timm.whl", "URLs and paths are not supported"),
        ("git+https://example.org/timm", "URLs and paths are not supported"),
        ("./timm-1.0-py3-none-any.whl", "URLs and paths are not supported"),
        ("timm-1.0-py3-none-any.whl", "URLs and paths are not supported"),
        ("tim=m", "not a valid requirement"),
        ("timm==", "not a valid requirement"),
    ],
)
def test_other_lines_are_refused_with_the_line(tmp_path, line, reason):
    file = tmp_path / "requirements.txt"
    file.write_text(f"einops\n{line}\n")
    with pytest.raises(UsageError, match=reason) as caught:
        of_words(str(file))
    assert f"{file}, line 2: {line}" in caught.value.message
    if not line.startswith("-"):
        with pytest.raises(UsageError, match=reason):
            of_words(line)


@pytest.mark.parametrize("line", ["--index-url ", "timm @ ", "git+"])
def test_login_in_an_address_is_not_shown(tmp_path, line):
    file = tmp_path / "requirements.txt"
    file.write_text(f"{line}https://me:secret@example.org/simple\n")
    with pytest.raises(UsageError, match=r"https://\*\*\*@example.org/simple") as caught:
        of_words(str(file))
    assert "secret" not in str(caught.value)


def test_unreadable_requirements_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.txt: cannot read the file: No such file"):
        of_words(str(tmp_path / "none.txt"))
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match="it is not UTF-8"):
        of_words(str(tmp_path / "bytes.txt"))


def test_block_in_the_models_file_is_honoured(nets):
    file = nets(BLOCK)
    found = read_requirements("nets.py:make", ["kornia"], file)
    assert found.texts == ("einops>0.6", "kornia", "timm==1.0.31")
    assert found.file == file
    assert str(found.pythons) == ">=3.10"
    without = read_requirements("nets.py:make", None, nets("# /// other\n# ///\nx = 1\n"))
    assert (without.texts, without.file) == ((), None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('# /// script\n# dependencies = ["timm"]\n', "has no end"),
        ('# /// script\n#dependencies = ["timm"]\n# ///\n', "has no end"),
        ('# /// script\n# dependencies = ["timm"\n# ///\n', "is not valid TOML"),
        ('# /// script\n# dependencies = "timm"\n# ///\n', "must be a list of strings"),
        ("# /// script\n# dependencies = [1]\n# ///\n", "must be a list of strings"),
        ('# /// script\n# dependencies = ["ti=mm"]\n# ///\n', "not a valid requirement"),
        ('# /// script\n# requires-python = "new"\n# ///\n', "requires-python .* is not valid"),
        ("# /// script\n# [tool.uv]\n# a = 1\n# ///\n", r"\[tool\.uv\] .* is not supported"),
        ("# /// script\n# ///\n\n# /// script\n# ///\n", "there are 2"),
    ],
)
def test_malformed_block_is_refused_with_the_file(nets, text, reason):
    file = nets(text)
    with pytest.raises(UsageError, match=reason) as caught:
        read_requirements("nets.py:make", None, file)
    assert str(file) in caught.value.message


def test_short_form_implies_its_package():
    assert of_words(model="timm:resnet18").texts == ("timm",)
    assert of_words("timm==1.0", model="timm:resnet18").texts == ("timm==1.0",)
    assert of_words(model="hf:folder").texts == ("transformers[torch]",)
    found = read_requirements("hf:folder", None, None, "torchscript")
    assert found.texts == ("transformers[torch]<4.48",)
    assert of_words("Transformers<5", model="hf:folder").texts == ("Transformers<5",)


def test_python_that_the_file_excludes_is_refused(nets):
    row, locked = row_and_lock("rtx")
    found = read_requirements("nets.py:make", None, nets(BLOCK.replace(">=3.10", ">=3.15")))
    with pytest.raises(UsageError, match=r"needs Python >=3\.15, and row rtx-1\.7 has Python 3"):
        refuse_contradicting(row, locked, found)
    for pythons in ("==3.11.*", ">=3.11.4", "<3.12", "~=3.11"):
        one = read_requirements("nets.py:make", None, nets(BLOCK.replace(">=3.10", pythons)))
        refuse_unfit(row, locked, "3.11", one)


def test_locked_package_cannot_get_another_version():
    row, locked = row_and_lock("rtx")
    with pytest.raises(UsageError) as caught:
        refuse_contradicting(row, locked, of_words("torch==2.12.0"))
    assert caught.value.message == (
        "--with torch==2.12.0: row rtx-1.7 has torch 2.13.0, and the packages of a row do not"
        " change"
    )
    for fits in ("torch", "torch>=2", "torch==2.13.0", "torch==1; sys_platform == 'win32'"):
        refuse_contradicting(row, locked, of_words(fits))


def test_dry_run_names_the_packages(nets, tasks):
    words = ("convert", "--model", f"{nets(BLOCK)}:make", "--input", "1x3", "--dry-run")
    done = tasks(*words, "--with", "kornia")
    assert done.returncode == 0, done.stderr
    assert "would add einops>0.6, kornia, timm==1.0.31 to its packages" in done.stderr
    refused = tasks("convert", "--model", "alexnet", "--with", "torch==2.12.0", "--dry-run")
    assert refused.returncode == 2
    assert "--with torch==2.12.0: row rtx-1.7 has torch 2.13.0" in refused.stderr
