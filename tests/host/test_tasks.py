"""The command line as a user meets it: real processes, real exit codes."""

import json
import os
import re
import subprocess
import sys

import pytest

from trtyard.system.uv import ROOT


def test_the_list_names_every_task_with_a_line_about_it(tasks):
    done = tasks("--list")
    assert done.returncode == 0
    for name in ("convert", "test", "lint", "lock", "matrix", "plugins", "clean"):
        assert f"  {name} " in done.stdout
    assert tasks().stdout.startswith(done.stdout.rstrip())
    assert tasks("--help").stdout == tasks("-h").stdout == tasks().stdout


def test_help_of_one_command_shows_its_arguments_and_options(tasks):
    done = tasks("row add", "--help")
    assert done.stdout.startswith("Usage: ./run row add RELEASE [OPTIONS]\n\nAdd a row ")
    assert tasks("lint", "--help").stdout.startswith("Usage: ./run lint\n\nCheck style")


def test_every_option_of_convert_is_explained(tasks):
    done = tasks("convert", "--help")
    assert done.returncode == 0
    names = "model trt in out weights image size input top-n norm-eps opset plugins dry-run"
    for name in names.split():
        assert re.search(rf"^ +--{name}(=STRING)? +\w", done.stdout, re.M), name


@pytest.mark.parametrize("words", [("explain", "--help"), ("report", "--help"), ("row add", "-h")])
def test_help_is_no_value_of_a_positional_argument(words, tasks):
    done = tasks(*words[0].split(), words[1])
    assert done.returncode == 0
    assert re.search(r"^ +--\w+=STRING +\w", done.stdout, re.M)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["convrt"], "there is no command 'convrt'; did you mean 'convert'"),
        (["convert", "--modell", "alexnet"], "did you mean '--model'"),
        (["convert", "--model"], "--model needs a value"),
        (["matrix", "--trt", "8.6"], "matrix has no option '--trt'\n"),
        (["--help", "nothing"], "'nothing'"),
        (["convert"], "--model is missing"),
        (["convert", "--model", "alexnet", "--trt", "rtz"], "did you mean 'rtx'"),
        (["convert", "--model", "alexnet", "--in", "cloud"], "auto, docker, host"),
        (["convert", "--model", "alexnet", "--size", "-3"], "--size must be a whole number"),
        (["convert", "--model", "alexnet", "--size", "big"], "'big'"),
        (["convert", "--model", "alexnet", "--top-n", "0"], "--top-n"),
        (["convert", "--model", "alexnet", "--memory", "lots"], "--memory must be a size"),
        (["convert", "--model", "alexnet", "--processes", "0"], "--processes must be a whole"),
        (
            ["convert", "--model", "alexnet", "--in", "host", "--memory", "1g"],
            "--memory and --processes need Docker",
        ),
        (["convert", "--model", "alexnet", "--norm-eps", "-1e-5"], "a number from 0 up to 1"),
        (["convert", "--model", "alexnet", "--norm-eps", "nan"], "--norm-eps must be a number"),
        (["convert", "--model", "alexnet", "--opset", "9"], "--opset is 9; the dynamo exporter"),
        (["convert", "--model", "alexnet", "--trt", "7.0", "--opset", "12"], "--opset is 12"),
        (["convert", "--model", "alexnet", "--image", "no.png"], "--image no.png: file not found"),
        (
            ["convert", "--model", "alexnet", "--weights", "seded"],
            "--weights seded: file not found",
        ),
        (["convert", "--model", "no.py:net", "--in", "host"], "no.py: file not found"),
        (["bench"], "./run bench --model faster_rcnn"),
        (["bench", "--model", "alexnet", "--batch", "0"], "--batch must be a whole number above 0"),
        (["bench", "--model", "alexnet", "--batch", "1,eight"], "not 'eight'"),
        (["bench", "--model", "alexnet", "--batch", "1,,8"], "not ''"),
        (["bench", "--model", "alexnet", "--batch", "8,1,8"], "8 is given more than once"),
        (["bench", "--model", "alexnet", "--runs", "0"], "--runs must be a whole number above 0"),
        (["bench", "--model", "alexnet", "--seconds", "-1"], "--seconds must be a whole number"),
        (["convert", "--model", "alexnet", "--batch", "8"], "--batch"),
        (["plugins", "--trt", "9"], "no row '9'"),
        (["ci", "--target", "kubernetes", "--check"], "kubernetes does not support --check"),
        (["ci", "--out", "jobs.yml"], "github does not support --out"),
        (["ci", "--trt", "8.6"], "github does not support --trt"),
        (["ci", "--gpus", "0"], "github does not support --gpus\n  leave out --gpus"),
        (["lock", "--check", "--upgrade"], "--check does not support --upgrade"),
        (["inspect", "--sbom", "--json"], "--sbom does not support --json"),
        (["test", "--only", "everything"], "host, pipeline, slow, rows, docker, gpu"),
    ],
)
def test_wrong_usage_exits_with_2_and_a_hint(tasks, words, said, tmp_path):
    done = tasks(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("trtyard: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ("convert", "--model", "alexnet", "--model", "vgg16"),
        ("convert", "--model=alexnet", "--dry-run", "--model", "vgg16"),
        ("matrix", "convert", "--model", "alexnet", "--model", "convert"),
    ],
)
def test_an_option_given_twice_is_named(tasks, words):
    done = tasks(*words)
    assert done.returncode == 2
    assert "convert: --model is given twice but takes one value" in done.stderr
    assert "No idea" not in done.stderr


def test_repeated_options_and_tasks_work(tasks):
    done = tasks("build", "--cache-from", "a", "--cache-from", "b", "--trt", "none")
    assert "twice" not in done.stderr
    line = ("convert", "--model", "alexnet", "--dry-run", "--in", "host")
    assert tasks(*line, *line).returncode == 0


def test_files_in_the_working_folder_do_not_shadow_tools(tasks, tmp_path):
    for name in ("typing.py", "invoke.py", "tasks.py", "docker.py", "trtyard.py"):
        (tmp_path / name).write_text("raise SystemExit('imported from the user')")
    done = tasks("matrix", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr


def test_the_matrix_is_shown_to_people_and_to_programs(tasks):
    shown = tasks("matrix").stdout
    assert "rtx-1.7   (also: default, rtx-1, rtx)" in shown
    assert "1.7.1.116 for RTX" in shown
    value = json.loads(tasks("matrix", "--json").stdout)
    assert value["default"] == "rtx-1.7"
    assert value["rows"][0]["aliases"] == ["default", "rtx-1", "rtx"]


def test_the_lock_check_needs_no_network_and_passes_as_committed(tasks):
    done = tasks("lock", "--check", env={"HTTPS_PROXY": "http://127.0.0.1:9"})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("versions.lock", '"version": "2.13.0"', '"version": "2.13.9"'),
        ("versions.toml", "opset = 18", "opset = 19"),
        ("requirements/host.in", "invoke==3.0.3", "invoke==3.0.2"),
    ],
)
def test_changed_lock_or_matrix_exits_with_5(tasks, checkout, file, old, new):
    text = (checkout / file).read_text()
    assert old in text
    (checkout / file).write_text(text.replace(old, new, 1))
    done = tasks("lock", "--check", root=checkout)
    assert done.returncode == 5, done.stderr
    assert file.partition("/")[0].removesuffix(".toml") in done.stderr
    assert "expect" in done.stderr or "was locked from" in done.stderr
    assert "Traceback" not in done.stderr


def test_dry_run_names_the_folder_and_writes_nothing(tasks, checkout):
    before = {path for path in checkout.rglob("*") if "__pycache__" not in path.parts}
    done = tasks("convert", "--model", "alexnet", "--in", "host", "--dry-run", root=checkout)
    assert done.returncode == 0, done.stderr
    assert str(checkout / "out" / "rtx-1.7" / "alexnet") in done.stderr
    assert "made first" in done.stderr
    assert {path for path in checkout.rglob("*") if "__pycache__" not in path.parts} == before


def test_the_reader_may_stop_reading():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-I", str(ROOT / "trtyard" / "__main__.py"), "--list"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert "Traceback" not in done.stderr


def run_in(root, *words, **options):
    command = [sys.executable, "-I", str(root / "trtyard" / "__main__.py"), *words]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **options)


def test_unwritten_output_is_a_failure():
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = run_in(ROOT, "matrix", "--json", stdout=full)
    assert done.returncode == 3
    assert done.stderr.startswith("trtyard: the disk is full")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("out", "code"), [("/sys/jobs.yml", 3), ("/proc/jobs.yml", 3), ("/dev/null/jobs.yml", 2)]
)
def test_unwritable_place_is_reported(tasks, out, code):
    image = f"rtx=registry.example.org/x@sha256:{'a' * 64}"
    done = tasks("ci", "--target", "kubernetes", "--image", image, "--out", out)
    assert done.returncode == code
    assert done.stderr.startswith("trtyard: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words", [["matrix"], ["--list"], ["convert", "--help"], ["explain", "topk-limit"]]
)
def test_a_reader_that_has_seen_enough_is_no_failure(words):
    reader, writer = os.pipe()
    os.close(reader)
    done = run_in(ROOT, *words, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("closed", "words", "code", "said"),
    [
        (">&-", "matrix", 3, "standard output is closed"),
        (">&-", "--list", 3, "standard output is closed"),
        (">&-", "convert --help", 3, "standard output is closed"),
        (">&-", "convert --model alexnet --dry-run", 3, "standard output is closed"),
        ("<&-", "explain -", 2, "stdin is empty"),
        ("<&-", "matrix", 0, ""),
        ("2>&-", "matrix", 0, ""),
        ("2>&- <&-", "no-such-task", 2, ""),
        (">&- 2>&- <&-", "matrix", 3, ""),
    ],
)
def test_closed_stream_is_reported_without_traceback(closed, words, code, said):
    script = f'exec "$0" -I "$1" {words} {closed}'
    main = str(ROOT / "trtyard" / "__main__.py")
    command = ["sh", "-c", script, sys.executable, main]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["matrix"], 0),
        (["explain", "nothing.log"], 2),
        (["convert", "--model", "net.py:make", "--in", "host"], 3),
        (["plugins", "--out", "x.so"], 3),
        (["fetch", "--into", "store"], 3),
    ],
)
def test_deleted_folder_is_reported_without_traceback(words, code, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && shift && exec "$0" -I "$@"'
    main = str(ROOT / "trtyard" / "__main__.py")
    command = ["sh", "-c", script, sys.executable, str(gone), main, *words]
    env = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if code == 3:
        assert "the current folder was deleted" in done.stderr


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
@pytest.mark.parametrize("name", ["\u00e9\u65e5.log", b"\xff\xfe.log"])
def test_any_file_name_works_in_any_locale(locale, name, tasks, tmp_path):
    log = os.path.join(os.fsencode(tmp_path), os.fsencode(name))  # noqa: PTH118 - bytes
    env = {"LC_ALL": locale, "LANG": locale}
    done = tasks("explain", log, env=env)
    assert done.returncode == 2
    assert "is neither a file nor a known failure" in done.stderr
    with open(log, "w") as file:  # noqa: PTH123 - bytes
        file.write("K exceeds the maximum value allowed (3840)\n")
    done = tasks("explain", log, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("topk-limit, line 1 of ")


def test_missing_venv_package_is_not_a_bug(tasks, checkout):
    file = checkout / "trtyard" / "cli" / "matrix.py"
    file.write_text("import a_package_that_is_not_here\n")
    done = tasks("matrix", root=checkout)
    assert done.returncode == 3
    assert ".venv is damaged (ModuleNotFoundError: No module named 'a_package" in done.stderr
    assert f"rm -rf {checkout / '.venv'}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_has_an_exit_code_that_no_result_has(tasks, checkout):
    file = checkout / "trtyard" / "cli" / "matrix.py"
    file.write_text(file.read_text() + "\n\ndef show_matrix(*, as_json):\n    raise KeyError(1)\n")
    done = tasks("matrix", root=checkout)
    assert done.returncode == 70
    assert "KeyError: 1" in done.stderr


def test_relative_paths_in_variables_use_the_working_folder(tmp_path):
    script = (
        "import os, sys, trtyard.cli.matrix\n"
        "trtyard.cli.matrix.show_matrix = lambda as_json: print(os.environ['SSL_CERT_FILE'])\n"
        "from trtyard.cli.command import main\n"
        "sys.argv = ['run', 'matrix']\n"
        "main()\n"
    )
    env = {**os.environ, "SSL_CERT_FILE": "company.pem", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path / "company.pem")
