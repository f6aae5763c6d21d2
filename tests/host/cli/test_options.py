"""Every option of every task, given as a user gives it, reaches what does the task's work."""

import json
import subprocess
import sys

import pytest
from invoke.collection import Collection

import tasks as tasks_module
from trtyard.system.uv import ROOT

# Runs command lines with one function replaced by what prints its arguments, a line each.
RECORDING = """
import dataclasses, importlib, json, os, sys

from trtyard.cli.command import main
from trtyard.core.request import ConversionRequest

def plain(value):
    if isinstance(value, ConversionRequest):
        return vars(value)
    if dataclasses.is_dataclass(value):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    return str(value)

target, lines = json.loads(sys.argv[1])
module, _, name = target.partition(":")
module = importlib.import_module(module)

def record(*words, **options):
    os.write(1, json.dumps({**options, "words": words}, default=plain).encode() + b"\\n")
    return ["x"] if name in LISTS else 0 if name in CODES else "x"

LISTS = ("build_all", "push", "pull")
CODES = ("convert", "bisect", "run_batch", "run_tests", "compile_plugins", "explain_log")
CODES += ("doctor", "run_linters")
setattr(module, name, record)
for line in lines:
    sys.argv = ["run", *line]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            os.write(1, json.dumps({"code": ended.code}).encode() + b"\\n")
"""

FILE = str(ROOT / "README.md")
CACHE = "type=local,dest=cache,mode=max"
NET = ["--model", "alexnet"]

# Task -> what it calls, the words that it needs, and for each option: its words behind the option,
# and what stands then, and without it does not, among the arguments of what is called. A dot leads
# into a value, a number to one of the arguments without a name.
CONVERT = {
    "model": (["resnet18"], {"words.0.model": "resnet18"}),
    "trt": (["8.6"], {"words.0.row": "8.6"}),
    "in": (["host"], {"words.0.where": "host"}),
    "out": (["/some where"], {"words.0.out": "/some where"}),
    "weights": (["seeded:3"], {"words.0.weights": "seeded:3"}),
    "image": ([FILE], {"words.0.image": FILE}),
    "with": (["timm==1.0"], {"words.0.packages": ["timm==1.0"]}),
    "size": (["320"], {"words.0.size": 320}),
    "input": (["1x16:int64:9,1x2"], {"words.0.input": "1x16:int64:9,1x2"}),
    "top-n": (["7"], {"words.0.top_n": 7}),
    "opset": (["19"], {"words.0.opset": 19}),
    "norm-eps": (["1e-4"], {"words.0.norm_eps": 1e-4}),
    "detections": (["dynamic"], {"words.0.detections": "dynamic"}),
    "simplify": ([], {"words.0.simplify": True}),
    "precision": (["fp32, fp16"], {"words.0.precision": "fp32,fp16"}),
    "calibrate": (["/some data"], {"words.0.calibrate": "/some data"}),
    "calibration": (["max"], {"words.0.calibration": "max"}),
    "keep-fp32": (["Conv,*head*"], {"words.0.keep_fp32": "Conv,*head*"}),
    "bisect": ([], {"words.0.bisect": True}),
    "between": (["torch,tensorrt"], {"words.0.between": "torch,tensorrt"}),
    "onnx": ([FILE], {"words.0.onnx": FILE}),
    "until": (["onnx"], {"words.0.until": "onnx"}),
    "plugins": ([FILE], {"words.0.plugins": FILE}),
    "runtime": (["onnxruntime-cuda"], {"words.0.runtime": "onnxruntime-cuda"}),
    "ops": ([FILE], {"words.0.ops": FILE}),
    "export": (["triton"], {"words.0.export": "triton"}),
    "memory": (["12g"], {"words.0.memory": "12g"}),
    "processes": (["99"], {"words.0.processes": 99}),
    "dry-run": ([], {"dry_run": True}),
}
CASES = {
    "convert": ("trtyard.run.convert:convert", NET, CONVERT),
    "bench": (
        "trtyard.run.convert:convert",
        NET,
        {
            **CONVERT,
            "batch": (["1, 8"], {"words.0.batch": "1,8"}),
            "runs": (["50"], {"words.0.runs": 50}),
            "seconds": (["3"], {"words.0.seconds": 3}),
        },
    ),
    "bisect": (
        "trtyard.run.bisect:bisect",
        NET,
        {
            name: one
            for name, one in CONVERT.items()
            if name not in ("bisect", "until", "export", "dry-run")
        },
    ),
    "test": (
        "trtyard.run.selftest:run_tests",
        [],
        {
            "trt": (["8.6"], {"words.0": "8.6"}),
            "only": (["host,rows"], {"only": "host,rows"}),
            "all": ([], {"all_parts": True}),
        },
    ),
    "lint": ("trtyard.run.selftest:run_linters", [], {}),
    "lock": (
        "trtyard.render.resolving:lock_and_render",
        [],
        {"upgrade": (["8.6"], {"upgrade": "8.6"}), "check": ([], None)},
    ),
    "matrix": ("trtyard.cli.matrix:show_matrix", [], {"json": ([], {"as_json": True})}),
    "row add": (
        "trtyard.render.rows:add_row",
        ["10.13"],
        {
            "like": (["10.16"], {"like": "10.16"}),
            "torch": (["2.12"], {"torch": "2.12"}),
            "python": (["3.11"], {"python": "3.11"}),
            "cuda": (["13.0"], {"cuda": "13.0"}),
            "opset": (["18"], {"opset": "18"}),
            "release": (["10.14"], {"words.0": "10.14"}),
        },
    ),
    "row list": ("trtyard.render.rows:list_rows", [], {"available": ([], {"available": True})}),
    "row remove": (
        "trtyard.render.rows:remove_row",
        ["10.13"],
        {"row": (["10.16"], {"words.0": "10.16"})},
    ),
    "patches": (
        "trtyard.lock.patches:show_patches",
        [],
        {"trt": (["8.6"], {"words.0": "8.6"}), "json": ([], {"as_json": True})},
    ),
    "plugins": (
        "trtyard.run.plugins:compile_plugins",
        [],
        {
            "trt": (["8.6"], {"words.0": "8.6"}),
            "for": (["onnxruntime"], {"runtime": "onnxruntime"}),
            "headers": (["/a b"], {"headers": "/a b"}),
            "out": (["x.so"], {"out": "x.so"}),
        },
    ),
    "clean": (
        "trtyard.run.clean:clean",
        [],
        {
            "old": ([], {"old": True}),
            "dry-run": ([], {"dry_run": True}),
            "yes": ([], {"yes": True}),
        },
    ),
    "render": ("trtyard.render.dockerfiles:render_all", [], {"check": ([], {"check": True})}),
    "base": (
        "trtyard.build.local_base:make_bases",
        [],
        {
            "trt": (["8.6"], {"words.0.name": "8.6"}),
            "force": ([], {"force": True}),
            "dry-run": ([], {"dry_run": True}),
        },
    ),
    "build": (
        "trtyard.build.build:build_all",
        [],
        {
            "trt": (["8.6,rtx"], {"words.0": ["8.6", "rtx"]}),
            "base": (["local"], {"options.base": "local"}),
            "builder": (["remote"], {"options.builder": "remote"}),
            "locked": ([], {"options.locked": True}),
            "no-cache": ([], {"options.no_cache": True}),
            "store": (["/a b"], {"options.store": "/a b"}),
            "target": (["final,runtime"], {"stages": ["final", "runtime"]}),
            "cache-from": ([CACHE], {"options.cache_from": [CACHE]}),
            "cache-to": ([CACHE], {"options.cache_to": [CACHE]}),
            "dry-run": ([], {"options.dry_run": True}),
        },
    ),
    "plan": (
        "trtyard.build.plan:show_plan",
        [],
        {
            "trt": (["8.6,rtx"], {"words.0": ["8.6", "rtx"]}),
            "target": (["final,runtime"], {"stages": ["final", "runtime"]}),
            "store": (["/a b"], {"store": "/a b"}),
            "json": ([], {"as_json": True}),
        },
    ),
    "reproduce": (
        "trtyard.prove.reproduce:reproduce",
        [],
        {
            "trt": (["8.6"], {"words.0": "8.6"}),
            "target": (["runtime"], {"stage": "runtime"}),
            "against": (["x:1"], {"against": "x:1"}),
            "base": (["local"], {"base": "local"}),
            "store": (["/a b"], {"store": "/a b"}),
            "keep": ([], {"keep": True}),
            "json": ([], {"as_json": True}),
            "dry-run": ([], {"dry_run": True}),
        },
    ),
    "push": (
        "trtyard.publish.push_and_pull:push",
        [],
        {
            "trt": (["8.6"], {"words.0": "8.6"}),
            "target": (["final,runtime"], {"stages": ["final", "runtime"]}),
            "registry": (["h:5000/a"], {"registry": "h:5000/a"}),
            "dry-run": ([], {"dry_run": True}),
        },
    ),
    "pull": (
        "trtyard.publish.push_and_pull:pull",
        [],
        {
            "trt": (["8.6"], {"words.0": "8.6"}),
            "target": (["final,runtime"], {"stages": ["final", "runtime"]}),
            "registry": (["h:5000/a"], {"registry": "h:5000/a"}),
            "dry-run": ([], {"dry_run": True}),
        },
    ),
    "inspect": (
        "trtyard.prove.inspect:show_image",
        [],
        {
            "trt": (["8.6"], {"words.0": "8.6"}),
            "target": (["runtime"], {"target": "runtime"}),
            "image": (["x:1"], {"image": "x:1"}),
            "json": ([], {"as_json": True}),
            "sbom": ([], {"sbom": True}),
        },
    ),
    "fetch": (
        "trtyard.build.store:fetch",
        [],
        {
            "trt": (["8.6"], {"words.0": "8.6"}),
            "into": (["/a b"], {"words.1": "/a b"}),
            "pythons": (["all"], {"pythons": "all"}),
        },
    ),
    "ci": (
        "trtyard.render.workflow:run",
        [],
        {
            "check": ([], {"check": True}),
            "jobs": (["x.json"], {"jobs": "x.json"}),
            "capability": (["8.9"], {"capability": "8.9"}),
        },
    ),
    "ci --target kubernetes": (
        "trtyard.publish.kubernetes:render_jobs",
        [],
        {
            "target": (["kubernetes"], {"models": "alexnet,faster_rcnn"}),
            "trt": (["8.6,rtx"], {"words.0": "8.6,rtx"}),
            "models": (["a,b"], {"models": "a,b"}),
            "image": (["x"], {"images": "x"}),
            "registry": (["h"], {"registry": "h"}),
            "claim": (["c"], {"claim": "c"}),
            "namespace": (["n"], {"namespace": "n"}),
            "gpus": (["0"], {"gpus": "0"}),
            "out": (["/a b"], {"out": "/a b"}),
        },
    ),
    "batch": (
        "trtyard.batch.batch:run_batch",
        ["a b.toml"],
        {
            "file": (["another.toml"], {"words.0": "another.toml"}),
            "on": (["slurm"], {"on": "slurm"}),
            "out": (["/a b"], {"out": "/a b"}),
            "workers": (["2"], {"workers": "2"}),
            "again": ([], {"again": True}),
            "dry-run": ([], {"dry_run": True}),
            "gpus": (["2", "--on", "slurm"], {"slurm.gpus": 2}),
            "constraint": (["a|b", "--on", "slurm"], {"slurm.constraint": "a|b"}),
            "retries": (["5", "--on", "slurm"], {"slurm.retries": 5}),
        },
    ),
    "report": (
        "trtyard.report.pages:make_pages",
        ["/a", "/b c"],
        {
            "folder": (["/d"], {"words.0": ["/a", "/b c", "/d"]}),
            "out": (["/a b"], {"out": "/a b"}),
        },
    ),
    "verified": (
        "trtyard.prove.verified:run",
        [],
        {
            "from": (["/a b"], {"folder": "/a b"}),
            "check": ([], {"check": True}),
            "need": (["rtx:x"], {"need": "rtx:x"}),
        },
    ),
    "explain": (
        "trtyard.diagnose.explain:explain_log",
        ["a log"],
        {
            "log": (["another"], {"words.0": "another"}),
            "onnx": (["a.onnx"], {"onnx": "a.onnx"}),
            "trt": (["8.6"], {"row": "8.6"}),
        },
    ),
    "doctor": (
        "trtyard.diagnose.doctor:doctor",
        [],
        {
            "trt": (["8.6"], {"words.0": "8.6"}),
            "model": (["alexnet"], {"model": "alexnet"}),
            "input": (["1x3"], {"input_shape": "1x3"}),
            "size": (["9"], {"size": "9"}),
        },
    ),
}


def recorded(target, lines):
    """Return the arguments of what each line calls, or its exit code."""
    done = subprocess.run(
        [sys.executable, "-c", RECORDING, json.dumps([target, lines])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
    assert len(found) == len(lines), done.stderr
    return found


def at(value, path):
    for key in path.split("."):
        value = value[int(key) if isinstance(value, list) else key]
    return value


def line_of(name, needed, option="", words=()):
    task, *more = name.split()
    if option in ("file", "model", "log", "release", "row"):
        needed = []
    if option == "target":
        more = []
    return [task, *more, *needed, *([f"--{option}"] if option else []), *words]


@pytest.mark.parametrize("name", CASES)
def test_options_reach_the_work(name):
    target, needed, cases = CASES[name]
    cases = {option: case for option, case in cases.items() if case[1] is not None}
    lines = [line_of(name, needed, option, words) for option, (words, _) in cases.items()]
    plain = line_of(name.split()[0] if name.startswith("ci ") else name, needed)
    found = recorded(target, lines)
    without = [] if name.startswith("ci ") else recorded(target, [plain])
    for line, (_, expected), arguments in zip(lines, cases.values(), found, strict=True):
        assert "code" not in arguments, line
        for path, value in expected.items():
            assert at(arguments, path) == value, line
            for other in without:
                assert at(other, path) != value, f"{path} is {value} without {line} too"


def test_every_option_has_a_case():
    known = {}
    for name, (_, _, cases) in CASES.items():
        known.setdefault(name.partition(" --")[0], set()).update(cases)
    contexts = Collection.from_module(tasks_module).to_contexts()
    there = {one.name: {flag.lstrip("-") for flag in one.flags} for one in contexts}
    assert known == there


def test_repeated_options_add_up():
    words = ["build", "--cache-to", "type=inline", "--cache-from", "type=local,src=a"]
    (found,) = recorded("trtyard.build.build:build_all", [[*words, "--cache-from", "type=gha"]])
    assert at(found, "options.cache_from") == ["type=local,src=a", "type=gha"]
    assert at(found, "options.cache_to") == ["type=inline"]


def test_upgrade_without_a_row_means_all_rows():
    (found,) = recorded("trtyard.lock.relock:relock", [["lock", "--upgrade"]])
    assert found["upgrade"] == "all"


def test_lock_check_resolves_nothing():
    (found,) = recorded("trtyard.lock.relock:check_locks", [["lock", "--check"]])
    assert found == {"words": []}
