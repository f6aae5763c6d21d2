import os
import shlex
import subprocess

import pytest
from validators import documents, validate

from trtyard.batch.kubernetes import commands_of

DIGEST = "sha256:" + "0123456789abcdef" * 4
IMAGES = ",".join(f"{row}=registry.example.org/{row}@{DIGEST}" for row in ("rtx-1.7", "8.6"))
JOBS = """
[[jobs]]
models = ["alexnet", "faster_rcnn"]
rows = ["rtx", "8.6"]
precisions = ["fp16"]

[[jobs]]
models = ["alexnet"]
input = "1..16x3x224x224"
simplify = true
"""


@pytest.fixture
def manifest(tmp_path, tasks):
    (tmp_path / "jobs.toml").write_text(JOBS)
    words = ["--target", "kubernetes", "--jobs", "jobs.toml", "--image", IMAGES]
    done = tasks("ci", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_conversion_is_an_index_of_its_rows_job(manifest):
    first, second, _ = documents(manifest)
    assert [job["spec"]["completions"] for job in (first, second)] == [3, 2]
    [container] = first["spec"]["template"]["spec"]["containers"]
    _, name, *arguments = container["args"]
    assert name == "trtyard"
    folder, *options = shlex.split(arguments[2])
    assert folder.startswith("alexnet-fp32-")
    assert options == ["--model=alexnet", "--input=1..16x3x224x224", "--simplify"]
    assert shlex.split(arguments[0])[1:] == ["--model=alexnet", "--precision=fp16"]


def test_script_runs_the_conversion_of_its_index(manifest, tmp_path):
    [container] = documents(manifest)[0]["spec"]["template"]["spec"]["containers"]
    script, *arguments = container["args"]
    (tmp_path / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    out = tmp_path / "out"
    done = subprocess.run(
        [*container["command"], script.replace("/mnt/out", str(out)), *arguments],
        env={"PATH": f"{tmp_path}:{os.defpath}", "JOB_COMPLETION_INDEX": "2"},
        capture_output=True,
        text=True,
    )
    words = done.stdout.splitlines()
    folder = words[words.index("--out") + 1]
    assert folder.startswith(f"{out}/rtx-1.7/alexnet-fp32-"), done.stderr
    assert words[-3:] == ["--model=alexnet", "--input=1..16x3x224x224", "--simplify"]


def test_manifest_is_valid_kubernetes(manifest, tmp_path):
    file = tmp_path / "jobs.yml"
    file.write_text(manifest)
    done = validate("kubernetes-validate", "--strict", "-k", "1.29", str(file))
    assert done.returncode == 0, done.stderr


def test_option_with_a_dollar_stays_as_it_is(tmp_path):
    (tmp_path / "jobs.toml").write_text(
        '[[jobs]]\nmodels = ["faster_rcnn"]\nkeep-fp32 = "/$(HOME)/a"\nprecisions = ["fp16"]\n'
    )
    [commands] = commands_of(str(tmp_path / "jobs.toml")).values()
    [words] = commands.values()
    assert shlex.split(words)[2:] == ["--precision=fp16", "--keep-fp32=/$(HOME)/a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('models = ["net.py:make"]\ninput = "1x3"', "a pod does not have "),
        ('models = ["alexnet"]\nweights = "pretrained"', "a pod cannot download --weights "),
        (
            f'models = ["alexnet"]\nweights = "https://a.example/a.pth#sha256={"0" * 64}"',
            "a pod cannot download --weights https://a.example/a.pth",
        ),
        ('models = ["alexnet"]\nin = "host"', "a pod does not support in = 'host'"),
        (
            'models = ["alexnet"]\nruntime = "onnxruntime-cuda"',
            "a pod does not have the packages of --runtime onnxruntime-cuda",
        ),
        ('models = ["alexnet"]\nexport = "triton"', "a pod does not support export = 'triton'"),
        ('models = ["alexnet"]\nmemory = "8g"\nin = "docker"', "does not support memory = '8g'"),
    ],
)
def test_what_a_pod_lacks_is_refused(tasks, tmp_path, text, said):
    (tmp_path / "net.py").write_text("")
    (tmp_path / "jobs.toml").write_text(f"[[jobs]]\n{text}\n")
    words = ["--target", "kubernetes", "--jobs", "jobs.toml", "--image", IMAGES]
    done = tasks("ci", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "jobs.toml has conversions that Kubernetes cannot run" in done.stderr
    assert said in done.stderr


def test_file_replaces_rows_and_models(tasks, tmp_path):
    (tmp_path / "jobs.toml").write_text(JOBS)
    words = ["--target", "kubernetes", "--jobs", "jobs.toml", "--models", "alexnet"]
    done = tasks("ci", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "--jobs does not support --models" in done.stderr
