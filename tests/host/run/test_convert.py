"""The host side of convert, up to the pipeline's command line."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from trtyard.core.ended import leave_code, request_file
from trtyard.core.errors import ConversionError, EnvironmentLacksError, UsageError
from trtyard.core.files import PARTIAL_PREFIX, write_json, written_whole
from trtyard.core.report import NOT_RUN, STAGES, Report, Stage
from trtyard.core.report_json import report_value
from trtyard.core.request import ConversionRequest
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.run import convert as convert_module
from trtyard.run import on_host as host
from trtyard.run.convert import (
    MAX_FOLDER_NAME,
    choose_executor,
    executor_of,
    folder_name,
    job_of,
    output_folder,
)
from trtyard.run.environment import environment_of
from trtyard.run.job import Job
from trtyard.run.on_host import pipeline_variables
from trtyard.system.uv import ROOT


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("alexnet", "alexnet"),
        ("my_pkg.nets:make_net", "my_pkg.nets-make_net"),
        ("../nets/a b.py:net", "nets-a-b.py-net"),
        ("/home/me/nets.py:net", "home-me-nets.py-net"),
        ("..", "model"),
        ("", "model"),
        ("нет", "model"),
        ("x" * 300, "x" * 80),
        ("a\nb;rm -rf ~", "a-b-rm--rf"),
    ],
)
def test_any_model_gets_a_safe_folder(model, name):
    assert folder_name(model) == name
    assert not set(name) & set("/\\: \n")


ARGUMENTS = [
    "()", "(10)", "('10')", "(10, 18)", "([10, 18])", "(-10)", "(depth=18)", "(depth='1/8')",
    "(depth='../../8')", "(depth='1 8')", '(name="it\'s")', "(name='нет')", "(name='да')",
    f"({list(range(300))})", f"({list(range(301))})",
]  # fmt: skip


def test_each_list_of_arguments_gets_a_safe_folder_of_its_own():
    models = [f"nets.py:make{each}" for each in ARGUMENTS]
    models += [f"{'x' * 100}/{model}" for model in models]
    names = [folder_name(model) for model in models]
    assert len(set(names)) == len(models)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
        assert len(name) <= MAX_FOLDER_NAME
    assert names[:2] == ["nets.py-make", "nets.py-make-10-4a44dc15"]
    assert names[6].startswith("nets.py-make-depth-18-")
    assert folder_name("nets.py:make(a=1, b=2)") == folder_name("nets.py:make( b=2,a=1 )")


def test_arguments_stay_with_the_file_that_is_placed(nets):
    (nets / "it's nets.py").write_text("")
    spec = "it's nets.py:Net.build(path='a:b(1)', sizes=[1, 2], name=\"it's\")"
    found = checked(model=spec)
    file = nets / "it's nets.py"
    assert (found.model_file, found.inputs()) == (file, [file])
    arguments = spec.partition(":")[2]
    assert found.placed(lambda path: f"/in{path}").model == f"/in{file}:{arguments}"
    assert found.placed().model == found.request.model == spec
    module = checked(model="package.nets:make(1)")
    assert (module.model_file, module.code_folder) == (None, nets)
    assert module.placed(lambda path: "/in").model == "package.nets:make(1)"


def test_folder_of_transformers_is_an_input(nets):
    with pytest.raises(UsageError, match=r"is not a folder with a config\.json"):
        checked(model="hf:bert")
    (nets / "bert").mkdir()
    (nets / "bert" / "config.json").write_text("{}")
    found = checked(model="hf:bert")
    assert found.inputs() == [nets / "bert"]
    assert found.placed(lambda path: f"/in{path}").model == f"hf:/in{nets}/bert"
    assert found.placed().model == "hf:bert"
    assert found.requirements.texts == ("transformers[torch]",)
    timm = checked(model="timm:resnet18.in1k")
    assert (timm.inputs(), timm.requirements.texts) == ([], ("timm",))


def test_a_folder_or_onnx_file_may_have_parentheses(nets):
    (nets / "a:b(1)").mkdir()
    (nets / "a:b(1)" / "c:d(2).onnx").write_bytes(b"\x08\x0a")
    found = checked(model="a:b(1)")
    assert found.onnx_file == nets / "a:b(1)" / "c:d(2).onnx"
    assert found.out.name == "a-b-1-c-d-2-.onnx"


def test_a_second_run_into_the_same_folder_is_refused(tmp_path):
    with output_folder(tmp_path / "out"):
        with pytest.raises(EnvironmentLacksError) as caught, output_folder(tmp_path / "out"):
            raise AssertionError("both hold the folder")
        assert "another conversion is writing into" in caught.value.message
        assert (tmp_path / "out").is_dir()


def test_run_without_output_leaves_no_folder(tmp_path):
    with output_folder(tmp_path / "out" / "row" / "model"):
        pass
    assert not list(tmp_path.iterdir())


def test_existing_files_are_kept(tmp_path):
    (tmp_path / "row").mkdir()
    with output_folder(tmp_path / "row" / "model"):
        (tmp_path / "row" / "model" / "report.json").touch()
    assert (tmp_path / "row" / "model" / "report.json").exists()
    with output_folder(tmp_path / "row" / "other"):
        pass
    assert [entry.name for entry in (tmp_path / "row").iterdir()] == ["model"]


def test_only_partial_files_of_a_killed_run_are_removed(tmp_path):
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from trtyard.core.files import written_whole\n"
        "with written_whole(Path('model.onnx')) as partial:\n"
        "    partial.write_bytes(b'half'); print(flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-I", "-c", script, str(ROOT)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as child:
        child.stdout.read(1)
        child.kill()
    (tmp_path / f"{PARTIAL_PREFIX}folder").mkdir()
    (tmp_path / f"{PARTIAL_PREFIX}folder" / "model.engine").touch()
    (tmp_path / "mine.txt").touch()
    assert len(list(tmp_path.iterdir())) == 3
    with output_folder(tmp_path):
        assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]
        with written_whole(tmp_path / "model.onnx") as partial:
            partial.write_bytes(b"whole")
    assert (tmp_path / "model.onnx").read_bytes() == b"whole"


def test_interrupt_removes_partial_files(tmp_path):
    """A child that does not end by itself is killed, and cannot tidy up."""

    def interrupted():
        with output_folder(tmp_path / "out"):
            (tmp_path / "out" / f"{PARTIAL_PREFIX}folder").mkdir()
            (tmp_path / "out" / f"{PARTIAL_PREFIX}folder" / "model.engine").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_one_of_many_runs_holds_the_folder(tmp_path):
    """Each removes it at its end, for it stays empty, while others make, open and lock it."""
    out = tmp_path / "row" / "model"

    def convert(_):
        told = set()
        for _ in range(300):
            try:
                with output_folder(out) as descriptor:
                    (out / "mine").mkdir()  # an error where it is another's
                    same = os.path.samestat(os.fstat(descriptor), out.stat())
                    (out / "mine").rmdir()
                told.add(f"held {same}")
            except EnvironmentLacksError as error:
                told.add(error.message)
        return told

    with ThreadPoolExecutor(4) as pool:
        told = set().union(*pool.map(convert, range(4)))
    assert "held True" in told
    assert told <= {"held True", f"another conversion is writing into {out}"}


def test_file_instead_of_folder_is_a_usage_error(tmp_path):
    (tmp_path / "out").write_text("mine")
    for folder in (tmp_path / "out", tmp_path / "out" / "row"):
        with pytest.raises(UsageError, match="is a file"), output_folder(folder):
            pass
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system for reading only")
def test_unwritable_folder_is_reported():
    with pytest.raises(EnvironmentLacksError) as caught, output_folder(Path("/proc/self/out")):
        pass
    assert "cannot write into /proc/self/out" in caught.value.message
    assert "--out" in caught.value.hint


@pytest.fixture(scope="module")
def row():
    return row_and_lock("default")[0]


def job(**changes):
    row, locked = row_and_lock("default")
    values = {
        "row": row,
        "locked": locked,
        "request": ConversionRequest(model="alexnet"),
        "out": Path("/results/here"),
    }
    return Job(**(values | changes))


def test_the_request_file_is_the_contract_on_the_host(tmp_path):
    asked = ConversionRequest(model="alexnet", weights="seeded:3", size=320, memory="1g")
    one = job(request=asked, image=Path("/pictures/a b.png"), out=tmp_path)
    file = tmp_path / f"{PARTIAL_PREFIX}request.json"
    assert one.arguments("host", "/env/row.json") == [
        *("convert", "--row-file", "/env/row.json", "--executor", "host"),
        *("--out", str(tmp_path), "--request", str(file)),
    ]
    assert json.loads(file.read_text()) == {
        "schema": 1, "model": "alexnet", "weights": "seeded:3", "image": "/pictures/a b.png",
        "size": 320, "input": None, "top_n": None, "norm_eps": None, "detections": None,
        "opset": None, "precision": "fp32", "calibrate": None, "calibration": None,
        "keep_fp32": None, "until": "engine", "plugins": None, "simplify": False,
        "packages": None, "bisect": False, "between": None, "onnx": None, "runtime": None,
        "ops": None,
    }  # fmt: skip


def test_user_paths_are_mapped_for_the_pipeline(tmp_path):
    one = job(
        request=ConversionRequest(model="nets/mine.py:net"),
        model_file=Path("/home/me/nets/mine.py"),
        weights=Path("/home/me/w.pth"),
        plugins=Path("/home/me/lib.so"),
        out=tmp_path,
    )
    placed = one.placed(lambda path: f"/in{path}")
    assert placed.model == "/in/home/me/nets/mine.py:net"
    assert placed.weights == "/in/home/me/w.pth"
    assert placed.plugins == "/in/home/me/lib.so"
    words = one.arguments("docker", "row.json", lambda path: f"/in{path}")
    assert words[words.index("--out") + 1] == f"/in{tmp_path}"
    assert words[words.index("--request") + 1] == f"/in{tmp_path}/{PARTIAL_PREFIX}request.json"
    assert one.inputs() == [
        Path("/home/me/w.pth"),
        Path("/home/me/lib.so"),
        Path("/home/me/nets/mine.py"),
    ]
    assert one.placed().model == "nets/mine.py:net"


def test_rows_python_imports_only_trtyard(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/other/torch")
    monkeypatch.setenv("PYTHONHOME", "/other/python")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    variables = pipeline_variables()
    assert variables["PYTHONPATH"] == str(ROOT)
    assert not {"PYTHONHOME", "PYTHONWARNINGS"} & set(variables)
    assert variables["PYTHONSAFEPATH"] == variables["PYTHONNOUSERSITE"] == "1"


@pytest.mark.parametrize(("python", "kept"), [("3.11", True), ("3.7", False)])
def test_compiled_modules_are_kept_in_the_environment(row, python, kept, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    made = environment_of(row, row_and_lock("default")[1], python)
    made = replace(made, folder=tmp_path / "environment")
    code = tmp_path / "code"
    code.mkdir()
    (code / "net.py").touch()
    script = "import sys; sys.path.append(sys.argv[1]); import net"
    subprocess.run([sys.executable, "-c", script, code], env=pipeline_variables(made), check=True)
    assert [file.name for file in code.iterdir()] == ["net.py"]
    assert bool(list(made.folder.rglob("net.*.pyc"))) == kept


def test_in_option_selects_the_executor(row):
    locked = row_and_lock("default")[1]
    assert choose_executor(row, locked, "host") == ("host", "--in host")
    executor, reason = choose_executor(row, locked, "auto")
    assert executor in row.executors
    assert reason


def test_unsupported_executor_is_a_usage_error(row):
    locked = row_and_lock("default")[1]
    with pytest.raises(UsageError, match="does not support --in host"):
        choose_executor(replace(row, executors=("docker",)), locked, "host")


def test_concurrent_converts_into_one_folder_are_refused(tasks, tmp_path):
    """The first holds the folder while a second, real command comes."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from trtyard.run.convert import output_folder\n"
        "with output_folder(Path(sys.argv[2])): print(flush=True); input()\n"
    )
    command = [sys.executable, "-I", "-c", script, str(ROOT), str(tmp_path / "out")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as first:
        first.stdout.read(1)
        words = ["--model", "alexnet", "--in", "host", "--out", str(tmp_path / "out")]
        done = tasks("convert", *words, timeout=60)  # it is refused, it does not wait
        first.communicate(b"\n")
    assert done.returncode == 3
    assert f"another conversion is writing into {tmp_path / 'out'}" in done.stderr


def test_row_without_tensorrt_wheel_stops_after_onnx():
    row, locked = row_and_lock("8.6")
    assert choose_executor(row, locked, "host", "onnx")[0] == "host"
    with pytest.raises(UsageError, match="stops after ONNX on the host") as caught:
        choose_executor(row, locked, "host", "engine")
    assert "--until onnx" in caught.value.hint
    assert choose_executor(row, locked, "auto", "engine")[0] == "docker"


GPU = {"runtime": "onnxruntime-cuda"}


@pytest.mark.parametrize(
    ("words", "said", "advised"),
    [
        ({"row": "8.6", **GPU}, "row 8.6 has no onnxruntime-gpu", "rtx-1.7, 11.3, 10.16"),
        ({"ops": __file__}, "--ops is the library of --runtime", "--runtime onnxruntime-cuda"),
        ({"ops": "none.so", **GPU}, "--ops none.so: file not found", None),
        ({"runtime": "tensorrt"}, "--runtime must be one of onnxruntime-cuda", None),
        ({"where": "docker", **GPU}, "runs on the host, not in Docker", "leave out --in docker"),
        ({"row": "11.3", "until": "engine", **GPU}, "stops after ONNX", "add --until onnx"),
    ],
)
def test_runtime_that_cannot_run_is_a_usage_error(words, said, advised):
    with pytest.raises(UsageError, match=said) as caught:
        executor_of(checked(**words))
    assert advised is None or advised in caught.value.hint


def test_runtime_on_the_gpu_selects_the_host():
    assert executor_of(checked(where="auto", **GPU)) == ("host", "--runtime onnxruntime-cuda")


@pytest.mark.parametrize(("has_device", "ops"), [(True, None), (True, __file__), (False, None)])
def test_gpu_packages_are_installed_only_where_they_run(has_device, ops, monkeypatch, tmp_path):
    asked = []

    def folder_of(name):
        return lambda *_: asked.append(name) or SimpleNamespace(folder=tmp_path / name)

    monkeypatch.setattr(host, "has_cuda_device", lambda: has_device)
    monkeypatch.setattr(host, "build_pycuda", lambda *_: None)
    monkeypatch.setattr(
        host, "make_environment", lambda row, lock: environment_of(row, lock, "3.11")
    )
    monkeypatch.setattr(host, "make_gpu_overlay", folder_of("gpu"))
    monkeypatch.setattr(host, "onnxruntime_headers", lambda: folder_of("headers")().folder)
    monkeypatch.setattr(host, "run_plainly", lambda command, env: command)
    words = list(map(str, host.convert(checked(out=str(tmp_path), ops=ops, **GPU))))
    assert ("--gpu-packages" in words) == has_device
    assert ("--onnxruntime-headers" in words) == (has_device and ops is None)
    assert asked == ["gpu"] * has_device + ["headers"] * (has_device and ops is None)
    request = json.loads((tmp_path / request_file(tmp_path).name).read_text())
    assert request["runtime"] == "onnxruntime-cuda"
    assert request["ops"] == ops


def test_missing_headers_are_a_warning(monkeypatch, capfd):
    def fails():
        raise EnvironmentLacksError("apt-get is not installed", "--headers FOLDER")

    monkeypatch.setattr(host, "onnxruntime_headers", fails)
    assert host._headers() == []
    said = capfd.readouterr().err
    assert (
        "warning: the kernels are not compiled for ONNX Runtime: apt-get is not installed" in said
    )
    assert "--ops" in said


@pytest.mark.parametrize("name", ["weights.pth", "a#b.pth"])
def test_weights_key_is_passed_to_the_pipeline(name, tmp_path):
    file = tmp_path / name
    file.write_bytes(b"")
    for text, key in ((str(file), ""), (f"{file}#params_ema", "params_ema")):
        found = checked(weights=text, norm_eps="0")
        assert (found.weights, found.weights_key) == (file, key)
        assert found.request.norm_eps == 0
    with pytest.raises(UsageError, match=r"none\.pth: file not found"):
        checked(weights=f"{tmp_path}/none.pth#params")
    placed = job(weights=file, weights_key="params").placed(lambda path: "/mnt")
    assert placed.weights == "/mnt#params"


REPORT = Report(
    *("rtx-1.7", "alexnet", "fp32", "host"),
    tuple(Stage(name, NOT_RUN, reason="not asked for") for name in STAGES),
)


class Ends:
    """An executor whose conversion ends with that code, having written a report or not."""

    def __init__(self, code, writes, own_code):
        self.code, self.writes, self.own_code = code, writes, own_code

    def convert(self, job):
        request_file(job.out).touch()
        if self.own_code is not None:
            leave_code(request_file(job.out), self.own_code)
        if self.writes:
            write_json(job.out / "report.json", report_value(REPORT))
        return self.code


def ended(monkeypatch, out, code, *, writes, own_code=None, **options):
    """Return the exit code of convert for a pipeline that ends with ``code``.

    ``own_code`` is the one that it recorded; without it, a report means that it is ``code``.
    """
    if writes and own_code is None:
        own_code = code
    monkeypatch.setattr(convert_module, "choose_executor", lambda *_: ("host", "so it is"))
    monkeypatch.setattr(convert_module, "_module_of", lambda _: Ends(code, writes, own_code))
    request = ConversionRequest(model="alexnet", where="host", out=str(out), until="onnx")
    request = request.replaced(**options)
    return convert_module.convert(request, dry_run=False)


def test_export_gets_the_models_name_and_without_it_none(monkeypatch, tmp_path):
    laid_out = []
    monkeypatch.setattr(convert_module, "lay_out", lambda *given: laid_out.append(given))
    ended(monkeypatch, tmp_path, 0, writes=True, export="triton")
    ended(monkeypatch, tmp_path, 0, writes=True)
    assert laid_out == [(tmp_path, "alexnet"), (tmp_path, None)]


def test_export_never_replaces_files_of_others(monkeypatch, tmp_path):
    (tmp_path / "triton" / "mine").mkdir(parents=True)
    with pytest.raises(UsageError, match="has files that are not from a conversion"):
        ended(monkeypatch, tmp_path, 0, writes=True, export="triton")
    assert not (tmp_path / "report.json").exists()
    assert ended(monkeypatch, tmp_path, 0, writes=True) == 0
    assert (tmp_path / "triton" / "mine").exists()


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5, 130])
def test_exit_codes_of_the_pipeline_are_kept(monkeypatch, tmp_path, code):
    for _ in range(2):  # the second report stands where the first did
        assert ended(monkeypatch, tmp_path / "out", code, writes=True) == code


@pytest.mark.parametrize("code", [2, 3, 4, 5, 130])
def test_errors_of_the_pipeline_need_no_report(monkeypatch, tmp_path, code):
    assert ended(monkeypatch, tmp_path, code, writes=False, own_code=code) == code


@pytest.mark.parametrize("code", [2, 3, 4, 5, 130])
def test_an_error_code_of_the_models_code_is_an_error(monkeypatch, tmp_path, code):
    """Such as after ``os._exit(3)`` in the model's code."""
    how = "was killed by SIGINT" if code == 130 else f"ended with exit code {code}"
    with pytest.raises(ConversionError, match=f"{how} and left no report"):
        ended(monkeypatch, tmp_path, code, writes=False)


@pytest.mark.parametrize(
    ("own_code", "code", "how"),
    [(4, 0, "ended with exit code 0"), (0, 77, "exit code 77"), (0, -11, "killed by SIGSEGV")],
)
def test_code_that_runs_at_exit_changes_no_result(
    monkeypatch, tmp_path, capfd, own_code, code, how
):
    assert ended(monkeypatch, tmp_path, code, writes=True, own_code=own_code) == own_code
    said = capfd.readouterr().err
    assert "the result is complete, but its process" in said
    assert how in said


@pytest.mark.parametrize("code", [0, 1])
def test_passed_or_different_without_a_report_is_an_error(monkeypatch, tmp_path, code):
    """Such as after ``os._exit(1)`` in the model's code."""
    (tmp_path / "report.json").write_text("of an earlier run")
    with pytest.raises(ConversionError, match=f"ended with exit code {code} and left no report"):
        ended(monkeypatch, tmp_path, code, writes=False)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (-11, ConversionError, "killed by SIGSEGV"),
        (139, ConversionError, "killed by SIGSEGV"),
        (-9, EnvironmentLacksError, "SIGKILL and left no report: most likely .* ran out of memory"),
        (137, EnvironmentLacksError, "SIGKILL"),
        (77, ConversionError, "ended with exit code 77"),
    ],
)
def test_conversion_without_a_report_is_an_error(monkeypatch, tmp_path, code, error, words):
    with pytest.raises(error, match=words) as caught:
        ended(monkeypatch, tmp_path, code, writes=False)
    assert caught.value.hint


def checked(**words):
    given = {"model": "alexnet", "where": "host", "until": "onnx", **words}
    return job_of(ConversionRequest.from_words(given))


@pytest.mark.parametrize(
    ("words", "said", "advised"),
    [
        ({"model": "net.onnx"}, "net.onnx: file not found", None),
        ({"model": "Net.ONNX"}, "Net.ONNX: file not found", None),
        ({"model": "~nobody-here/net.onnx"}, "no such user", "without ~"),
        ({"model": "hf:~nobody-here/net"}, "no such user", "without ~"),
        ({"packages": ["~nobody-here/a.txt"]}, "no such user", "without ~"),
        ({"weights": "~nobody-here/net.pth"}, "no such user", "without ~"),
        ({"out": "~nobody-here/net"}, "no such user", "without ~"),
        ({"model": "net.pth"}, "this is a weights file", "--weights net.pth"),
        ({"model": "net.safetensors"}, "this is a weights file", "--weights net.safetensors"),
        ({"model": "net.engine"}, "this is an engine", "--model nets.py:make_net"),
        ({"model": "net.py"}, "without a callable", "--model net.py:make_net"),
        ({"model": "alexnt"}, "similar names: alexnet", "--model alexnet"),
        ({"model": "zzzz"}, "unknown model 'zzzz'", "--model faster_rcnn"),
        ({"model": "none.py:make"}, "none.py: file not found", None),
        ({"model": "none.py:make(1)"}, "none.py: file not found", None),
        ({"model": "net.py:make(x=N)"}, "the argument x (x=N) is not a literal", "x='N'"),
        ({"model": f"net.py:make({'9' * 300}"}, "cannot read the arguments", "depth=18"),
        ({"model": "x" * 5000}, "unknown model", None),
        ({"size": "5000"}, "alexnet supports 1 to 2048 pixels", "--size 2048"),
        ({"model": "faster_rcnn", "size": "63"}, "supports 64 to 1333 pixels", "--size 64"),
    ],
)
def test_impossible_requests_are_refused_at_once(words, said, advised):
    with pytest.raises(UsageError) as caught:
        checked(**words)
    assert said in caught.value.message
    assert advised is None or advised in caught.value.hint


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """Stand in a folder with ONNX files; the host reads their first bytes at most."""
    monkeypatch.chdir(tmp_path)
    for name in ("one/a.onnx", "two/b.onnx", "two/a.onnx", "none/readme.txt", "alexnet/c.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x08\x0a")
    return tmp_path


def test_a_folder_stands_for_its_only_onnx_file(nets):
    found = checked(model="one")
    assert found.request.model == "one/a.onnx"
    assert found.onnx_file == nets / "one" / "a.onnx"
    assert found.out.name == "one-a.onnx"
    assert checked(model="alexnet").onnx_file is None  # a model of that name comes first
    with pytest.raises(UsageError, match=r"holds 2 ONNX files: a\.onnx, b\.onnx") as caught:
        checked(model="two")
    assert caught.value.hint == "choose one: --model two/a.onnx"
    with pytest.raises(UsageError, match=r"the folder holds no \.onnx file"):
        checked(model="none")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "the file is empty"), (b"version https://git-lfs.github.com/spec/v1", "Git LFS")],
)
def test_onnx_files_that_no_row_reads_are_refused_at_once(content, words, nets):
    (nets / "net.onnx").write_bytes(content)
    with pytest.raises(UsageError, match=words):
        checked(model="net.onnx")


def test_an_onnx_file_beyond_protobufs_limit_is_refused_at_once(nets):
    with (nets / "net.onnx").open("wb") as stream:
        stream.truncate(2**31)  # takes no room on the disk
    with pytest.raises(UsageError, match="protobuf reads 2 GiB at most") as caught:
        checked(model="net.onnx")
    assert "external_data=True" in caught.value.hint


@pytest.mark.parametrize(
    "words",
    [
        *({"weights": "seeded:3"}, {"opset": "17"}, {"size": "64"}, {"top_n": "5"}),
        *({"norm_eps": "0"}, {"detections": "dynamic"}),
    ],
)
def test_options_of_other_models_are_refused_for_onnx_files(words, nets):
    (name,) = words
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is not for one/a.onnx"):
        checked(model="one/a.onnx", **words)


def test_docker_gets_the_onnx_folder_only_for_data(nets):
    alone = checked(model="one/a.onnx")
    assert alone.inputs() == [nets / "one" / "a.onnx"]
    assert alone.placed(lambda path: f"/in{path}").model == f"/in{nets}/one/a.onnx"
    (nets / "one" / "a.onnx").write_bytes(b"\x08\x0a..\x0a\x08location\x12\x05a.bin")
    with_data = checked(model="one/a.onnx")
    assert with_data.inputs() == [nets / "one"]
    assert with_data.placed(lambda path: f"/in{path}").model == f"/in{nets}/one/a.onnx"
    compared = checked(model="alexnet", onnx="one/a.onnx", bisect=True)
    assert compared.inputs() == [nets / "one"]
    assert compared.placed(lambda path: f"/in{path}").onnx == f"/in{nets}/one/a.onnx"


def test_a_file_of_values_is_placed_where_the_pipeline_runs(nets):
    (nets / "x.npz").touch()
    found = checked(model="one/a.onnx", input="x.npz")
    assert found.inputs() == [nets / "one" / "a.onnx", nets / "x.npz"]
    assert found.placed(lambda path: f"/in{path}").input == f"/in{nets}/x.npz"
    assert checked(model="one/a.onnx", input="x=1x4").input_file is None
    with pytest.raises(UsageError, match=r"--input y\.npz: file not found"):
        checked(model="one/a.onnx", input="y.npz")


def test_unknown_callables_are_left_to_the_row():
    for model in ("faster_rcnn", "vit_b_16", "my_package.nets:make", f"{__file__}:make"):
        assert checked(model=model, size="224").request.model == model


def test_input_starting_with_a_dash_is_one_argument():
    assert checked(model=f"{__file__}:make", input="-1x16").request.input == "-1x16"


def test_dry_run_refuses_the_same_requests(monkeypatch, tmp_path):
    def none(_versions):
        raise EnvironmentLacksError("this machine has no Python 3.11")

    monkeypatch.setattr(host, "existing_environment", lambda *_: None)
    monkeypatch.setattr(host, "find_python", none)
    asked = ConversionRequest(model="alexnet", where="host", out=str(tmp_path / "out"))
    with pytest.raises(EnvironmentLacksError, match="no Python"):
        convert_module.convert(asked, dry_run=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("python", "variables", "expected"),
    [
        ("3.6", {}, "C.UTF-8"),
        ("3.6", {"LANG": "C", "LC_ALL": ""}, "C.UTF-8"),
        ("3.6", {"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, "C.UTF-8"),
        ("3.6", {"LANG": "de_DE.utf8"}, None),
        ("3.11", {}, None),
    ],
)
def test_python_3_6_reads_paths_as_utf8(monkeypatch, tmp_path, python, variables, expected):
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = SimpleNamespace(python_version=python, folder=tmp_path)
    assert pipeline_variables(made).get("LC_ALL") == expected
