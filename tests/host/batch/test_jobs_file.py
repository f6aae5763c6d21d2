import json
import re
import subprocess
import sys
from pathlib import Path

import fastjsonschema
import pytest

from trtyard.batch.jobs_file import in_folder_of, jobs_schema, read_jobs
from trtyard.core.errors import UsageError
from trtyard.core.request import ConversionRequest
from trtyard.system.reading import parse_toml
from trtyard.system.uv import ROOT

EXAMPLE = re.search(r"```toml\n(.*?)```", (ROOT / "docs" / "scaling.md").read_text(), re.DOTALL)[1]


def write(folder, text):
    file = folder / "jobs.toml"
    file.write_text(text)
    return file


def read(folder, text):
    file = write(folder, text)
    with in_folder_of(file):
        return read_jobs(file, folder / "out")


def test_example_in_the_documentation_is_read(tmp_path):
    (tmp_path / "net.py").write_text("")
    (tmp_path / "net.pth").write_bytes(b"")
    jobs = read(tmp_path, EXAMPLE)
    assert [job.words for job in jobs] == [
        (row, model, precision)
        for row in ("rtx-1.7", "8.6")
        for model in ("alexnet", "faster_rcnn")
        for precision in ("fp32", "fp16")
    ] + [("rtx-1.7", "net.py:make_net(depth=18)", "fp32")]
    assert [job.index for job in jobs] == list(range(9))
    assert {job.job.request.until for job in jobs[:8]} == {"onnx"}
    assert jobs[8].job.weights == tmp_path / "net.pth"
    assert jobs[8].job.request.top_n is None


def test_example_fits_the_schema():
    fastjsonschema.compile(jobs_schema())(parse_toml(EXAMPLE))


def test_every_option_of_convert_is_a_key(tmp_path):
    keys = set(jobs_schema()["properties"]["jobs"]["items"]["properties"])
    options = {one.name for one in ConversionRequest.options().values()}
    assert keys - {"models", "rows", "precisions"} == options - {"model", "trt", "precision", "out"}


def test_values_of_every_type_reach_the_request(tmp_path):
    text = '[[jobs]]\nmodels = ["faster_rcnn"]\ntop-n = 100\nnorm-eps = 1e-5\nsimplify = true\n'
    [job] = read(tmp_path, f'{text}in = "host"\n')
    request = job.job.request
    assert (request.top_n, request.norm_eps, request.simplify) == (100, 1e-5, True)
    assert request.where == "host"


def test_paths_are_relative_to_the_file(tmp_path, tasks):
    (tmp_path / "net.py").write_text("")
    file = write(tmp_path, '[[jobs]]\nmodels = ["net.py:make"]\ninput = "1x3"\n')
    done = tasks("batch", str(file), "--dry-run", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "net.py:make" in done.stdout
    assert "would run: not run yet" in done.stdout


def test_folders_are_readable_unique_and_stable(tmp_path):
    text = '[[jobs]]\nmodels = ["alexnet"]\nprecisions = ["fp32", "fp16"]\n'
    names = [job.name for job in read(tmp_path, f'{text}[[jobs]]\nmodels = ["alexnet"]\nsize = 64')]
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"rtx-1\.7/alexnet-fp(32|16)-[0-9a-f]{8}", name) for name in names)
    swapped = f'[[jobs]]\nmodels = ["alexnet"]\nsize = 64\nrows = ["rtx"]\n{text}'
    assert {job.name for job in read(tmp_path, swapped)} == set(names)


MODEL = '[[jobs]]\nmodels = ["alexnet"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[jobs]\n", "jobs.toml is not TOML: Expected ']]' at the end of an array declaration"),
        ("[[jobs]\n", "(at line 1, column 7)"),
        ("", "jobs.toml: jobs is missing\n  see the example in docs/scaling.md"),
        ("jobs = []", "jobs.toml: jobs must not be empty"),
        ("[[jobs]]", "jobs.toml: jobs[0].models is missing"),
        ("[[jobs]]\nmodels = []", "jobs.toml: jobs[0].models must not be empty"),
        ('[[jobs]]\nmodels = "alexnet"', "jobs[0].models must be a list, not 'alexnet'"),
        (f"{MODEL}rows = []", "jobs[0].rows must not be empty"),
        (
            f"{MODEL}precision = []",
            "jobs[0].precision is not a known key; did you mean 'precisions'",
        ),
        (f"{MODEL}inputs = '1'", "jobs[0].inputs is not a known key; did you mean 'input'"),
        (f"{MODEL}size = '64'", "jobs[0].size must be a whole number from 1 to"),
        (f"{MODEL}size = 0", "jobs[0].size must be a whole number from 1 to"),
        (f"{MODEL}input = 3", "jobs[0].input must be a text, not 3"),
        (f"{MODEL}simplify = 1", "jobs[0].simplify must be true or false, not 1"),
        (f"{MODEL}norm-eps = '1'", "jobs[0].norm-eps must be a number, not '1'"),
        (f"{MODEL}norm-eps = 2", "jobs[0]: default, alexnet, fp32: --norm-eps must be a number"),
        (f"{MODEL}until = 'export'", "--until must be one of onnx, engine, not 'export'"),
        (f"{MODEL}rows = ['rtz']", "jobs[0]: rtz, alexnet, fp32: no row 'rtz'"),
        (f"{MODEL}precisions = ['fp12']", "jobs[0]: default, alexnet, fp12: --precision"),
        (f"{MODEL}weights = 'no.pth'", "--weights no.pth: file not found"),
        ("[[jobs]]\nmodels = ['no.py:net']", "no.py: file not found"),
        (f"{MODEL}rows = ['8.6']\nin = 'host'", "row 8.6 stops after ONNX on the host"),
        (f"{MODEL}in = 'host'\nmemory = '1g'", "--memory and --processes need Docker"),
        (f"{MODEL}rows = ['rtx', 'rtx-1.7']", "is a duplicate of jobs[0]: rtx, alexnet, fp32"),
        (f"{MODEL}{MODEL}", "jobs[1]: default, alexnet, fp32: is a duplicate of jobs[0]"),
    ],
)
def test_wrong_files_are_usage_errors(tmp_path, text, said):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_all_problems_are_listed_at_once(tmp_path):
    text = '[[jobs]]\nmodels = ["alexnet", "no.py:net"]\nrows = ["rtz", "rtx"]\n'
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    lines = str(caught.value).splitlines()
    assert lines[0] == "jobs.toml: 3 conversions cannot run, so none was started"
    assert [line for line in lines if line.startswith("  jobs[0]: rtz, alexnet")]
    assert [line for line in lines if line.startswith("  jobs[0]: rtx, no.py:net")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "batch needs FILE"),
        (["no.toml"], "no.toml does not exist\n  see the example in docs/scaling.md"),
        (["."], "cannot be read: Is a directory"),
        (["bytes.toml"], "bytes.toml is not TOML"),
        (["jobs.toml", "--workers", "0"], "--workers must be a whole number from 1 up, not '0'"),
        (["jobs.toml", "--workers", "many"], "--workers must be a whole number"),
        (["jobs.toml", "--on", "slrum"], "--on must be one of here, slurm, not 'slrum'; did you"),
        (["jobs.toml", "--on", "kubernetes"], "./run ci --target kubernetes --jobs FILE"),
        (["jobs.toml", "--on", "slurm", "--workers", "2"], "--workers is for this machine"),
        (["jobs.toml", "--gpus", "2"], "--on here does not support --gpus"),
        (["jobs.toml", "--", "-p", "main"], "--on here does not support options after --"),
        (["jobs.toml", "--on", "slurm", "--gpus", "-1"], "--gpus must be a whole number from 0"),
        (["jobs.toml", "--on", "slurm", "--retries", "x"], "--retries must be a whole number"),
        (["jobs.toml", "--out", "bytes.toml"], "bytes.toml is a file, not a folder"),
    ],
)
def test_wrong_usage_is_an_error_with_a_hint(tasks, tmp_path, words, said):
    write(tmp_path, MODEL)
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    done = tasks("batch", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(list(tmp_path.iterdir())) == 2


def test_folder_in_use_is_reported(tasks, tmp_path):
    write(tmp_path, MODEL)
    (tmp_path / "out").mkdir()
    lock = "import fcntl, os, sys; fcntl.flock(os.open('out', 0), 2); print(1, flush=True); input()"
    command = [sys.executable, "-c", lock]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as other:
        other.stdout.readline()
        done = tasks("batch", "jobs.toml", "--out", "out", cwd=tmp_path)
        other.communicate(b"\n")
    assert done.returncode == 3
    assert f"another ./run batch uses {tmp_path / 'out'}" in done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_running_slurm_arrays_are_not_disturbed(tasks, tmp_path):
    write(tmp_path, MODEL)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "slurm.json").write_text('{"arrays": {"7": {"0": "x"}}, "attempts": {}}')
    done = tasks("batch", "jobs.toml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 3
    assert "a Slurm array may still write into" in done.stderr
    assert "add --on slurm" in done.stderr


def test_slurm_is_needed_for_slurm(tasks, tmp_path):
    write(tmp_path, MODEL)
    done = tasks(
        "batch", "jobs.toml", "--on", "slurm", "--out", "out", cwd=tmp_path, env={"PATH": ""}
    )
    assert done.returncode == 3
    assert "sbatch is not installed\n  run this command on a login node" in done.stderr


def test_dry_run_writes_nothing(tasks, tmp_path):
    write(tmp_path, '[[jobs]]\nmodels = ["alexnet", "faster_rcnn"]\n')
    done = tasks("batch", "jobs.toml", "--out", "out", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("would run: not run yet") == 2
    assert [one.name for one in Path(tmp_path).iterdir()] == ["jobs.toml"]


def test_schema_is_json():
    assert json.loads(json.dumps(jobs_schema())) == jobs_schema()
