"""Convert torchvision's models with every row's exporters; docs/zoo.md shows the results.

    .venv/bin/python bench/zoo.py run [--most N] [--only PATTERN] [--again | --failed]
    .venv/bin/python bench/zoo.py render [--check]

``run`` runs each case of zoo_cases.py that has no result yet. It exports the model in the row's
environment and compares ONNX Runtime with PyTorch there. Then TensorRT for RTX parses the file and
builds an engine, for every row. Each case runs in a separate process with a limit of time and
memory; a crash is a result too. Results go to out/zoo, one file per case; after an interruption the
same command continues. Cases in docs/zoo.json count as done, unless ``--again`` (run all) or
``--failed`` (run those that failed) is given. To repeat a case of out/zoo, delete its file. With
``--most`` it stops after that many cases. Exit code 1: no case is left. The rows' environments must
exist: ./run convert --in host --trt ROW --until onnx --model alexnet makes one.

``render`` merges the results in out/zoo into docs/zoo.json, and writes the tables of docs/zoo.md
from that file.
"""

import argparse
import fnmatch
import json
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "bench"))

import zoo_page  # noqa: E402
from zoo_cases import SIZES, Case, cases  # noqa: E402

from trtyard.lock.file import read_lock  # noqa: E402
from trtyard.matrix.reader import read_matrix  # noqa: E402
from trtyard.matrix.toolchains import matrix_toolchains  # noqa: E402
from trtyard.run.environment import existing_environment  # noqa: E402
from trtyard.run.on_host import pipeline_variables  # noqa: E402
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE  # noqa: E402

RESULTS = ROOT / "out" / "zoo"
SECONDS = 240  # default limit of a child process; exporting a Mask R-CNN takes a fifth of it
BUILDER = "rtx-1.7"
CHILD = ROOT / "bench" / "zoo_case.py"


def environments():
    """Return the environments that are ready on this machine, by row."""
    matrix, lock = read_matrix(MATRIX_FILE), read_lock(LOCK_FILE)
    found = {
        row.name: existing_environment(row, lock.row(row.name)) for row in matrix.rows.values()
    }
    return {name: one for name, one in found.items() if one is not None}


def child(python, words, seconds):
    """Run a child process; return the facts of each stage by name, including one that crashed."""
    command = [str(python), str(CHILD), *map(str, words)]
    process = subprocess.Popen(
        command,
        env=pipeline_variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        out, err = process.communicate(timeout=seconds)
        ended = None
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        ended = f"took longer than {seconds} s"
    stages = {}
    for line in out.splitlines():
        if line.startswith("{"):
            facts = json.loads(line)
            stages[facts.pop("stage")] = facts
    for facts in stages.values():
        if facts["status"] == "begun":
            facts["status"] = "ended"
            facts["error"] = ended or f"the process ended with {process.returncode}"
            facts["words"] = err[-6000:]
    if not stages:
        raise SystemExit(f"{command} printed no result:\n{err}")
    return stages


def run_case(case: Case, rows, seconds: int) -> dict:
    start = time.time()
    with tempfile.TemporaryDirectory(dir=RESULTS) as folder:
        file = Path(folder, "model.onnx")
        row = rows[case.row]
        words = ["export", "--row-file", row.row_file, "--model", case.model, "--file", file]
        words += ["--exporter", case.exporter, "--opset", case.opset]
        if case.model in SIZES:
            words += ["--size", SIZES[case.model]]
        stages = child(row.python, words, seconds)
        stages.pop("import", None)
        if stages.get("export", {}).get("status") == "passed":
            built = child(rows[BUILDER].python, ["build", "--file", file], seconds)
            stages["engine"] = built.get("engine", built["import"])
    return {**case._asdict(), "stages": stages, "seconds": round(time.time() - start, 1)}


def run(options) -> int:
    rows = environments()
    RESULTS.mkdir(parents=True, exist_ok=True)
    left = to_try(options.only, published(), options.again, options.failed)
    for name in sorted(({one.row for one in left} | {BUILDER}) - set(rows)):
        print(f"skipping row {name}: it has no environment on this machine", flush=True)
    if BUILDER not in rows:
        return 1
    left = [one for one in left if one.row in rows][: options.most]
    said = threading.Lock()

    def one(case: Case) -> None:
        result = run_case(case, rows, options.seconds)
        result_of(case).write_text(json.dumps(result, indent=1), encoding="utf-8")
        with said:
            print(f"{case.key:60} {in_words(result)}", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(one, left))
    return 0 if left else 1


def published() -> dict:
    """Return the content of docs/zoo.json, by the case's key."""
    data = ROOT / zoo_page.DATA
    return json.loads(data.read_text(encoding="utf-8")) if data.exists() else {}


def to_try(only: str, kept: dict, again: bool = False, failed: bool = False) -> list[Case]:
    """Return the cases that match ``only`` and have no result, in their order.

    Args:
        only: pattern of ROW.MODEL.EXPORTER-OPSET.
        kept: the published results.
        again: include cases with a published result.
        failed: include only cases whose published result is a failure.
    """
    wanted = [
        one for one in cases() if fnmatch.fnmatch(one.key, only) and not result_of(one).exists()
    ]
    if failed:
        return [one for one in wanted if kept.get(one.key, {}).get("failed")]
    return [one for one in wanted if again or one.key not in kept]


def result_of(case: Case) -> Path:
    return RESULTS / f"{case.key}.json"


def in_words(result) -> str:
    for name, facts in result["stages"].items():
        if facts["status"] != "passed":
            return f"{name} {facts['status']}: {zoo_page.failure_of(facts) or facts['error'][:200]}"
    parity = result["stages"].get("parity", {})
    return f"{result['seconds']:5.1f} s {parity}"


def render(check: bool) -> int:
    data, page = ROOT / zoo_page.DATA, ROOT / zoo_page.PAGE
    if not check:
        rows = {row.row: row for row in matrix_toolchains()}
        kept = published()
        for case in cases():
            if result_of(case).exists():
                raw = json.loads(result_of(case).read_text(encoding="utf-8"))
                kept[case.key] = zoo_page.summary_of(raw, rows[case.row])
        ordered = {case.key: kept[case.key] for case in cases() if case.key in kept}
        data.write_text(zoo_page.in_json(ordered), encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    wanted = zoo_page.with_tables(text, json.loads(data.read_text(encoding="utf-8")))
    if check:
        if text != wanted:
            print(f"{page} is not up to date with {data}: bench/zoo.py render", file=sys.stderr)
        return int(text != wanted)
    page.write_text(wanted, encoding="utf-8")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("--most", type=int)
    running.add_argument("--only", default="*", help="pattern of ROW.MODEL.EXPORTER-OPSET")
    which = running.add_mutually_exclusive_group()
    which.add_argument("--again", action="store_true", help="also cases in docs/zoo.json")
    which.add_argument(
        "--failed", action="store_true", help="only cases that failed in docs/zoo.json"
    )
    running.add_argument("--seconds", type=int, default=SECONDS, help="time limit of a process")
    running.add_argument("--jobs", type=int, default=2)
    rendering = commands.add_parser("render")
    rendering.add_argument("--check", action="store_true", help="only compare page and data")
    options = parser.parse_args()
    return run(options) if options.command == "run" else render(options.check)


if __name__ == "__main__":
    sys.exit(main())
