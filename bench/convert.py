"""Measure the time and accuracy of ./run convert, and compare them with the targets.

    python3 bench/convert.py [--runs 3] [--from-nothing] [--image]

Prints a table of figures with their targets. Run it on an idle machine, in a checkout whose row
environment is ready (``./run convert --model alexnet`` makes it). ``--from-nothing`` also clones
the checkout and measures the first command there with an empty package cache, which downloads
several GB. ``--image`` also edits files in a clone and measures how long the image takes to
rebuild; it needs Docker.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN = str(ROOT / "run")

# Imports of a conversion whose time trtyard does not control.
LIBRARIES = "import torch, torchvision, onnx, onnxruntime, onnxscript, tensorrt_rtx_bindings"
# Stages that spend their time in torch, ONNX Runtime, TensorRT or nvcc.
LIBRARY_STAGES = {"torch", "export", "onnxruntime", "plugins", "engine", "tensorrt"}


def seconds(command, **options):
    """Return the wall-clock seconds of a command; exit if it fails."""
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, **options)
    wall = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"{command} ended with {done.returncode}")
    return wall


def median_of(runs, command, **options):
    return statistics.median(seconds(command, **options) for _ in range(runs))


def convert(model, folder, *options, environment=None, runner=RUN):
    wall = seconds(
        [runner, "convert", "--model", model, "--in", "host", "--out", str(folder), *options],
        env=environment,
    )
    return wall, json.loads((folder / "report.json").read_text())


def parity_of(report, output):
    return max(row["max_abs"] for row in report["parity"] if row["output"] == output)


def row_python():
    """Return the Python of the newest complete row environment."""
    stamps = sorted(ROOT.glob(".trtyard/rows/*/*/whole"), key=lambda path: path.stat().st_mtime)
    return stamps[-1].parent / "venv" / "bin" / "python"


def measure(runs):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield "./run --list", median_of(runs, [RUN, "--list"]), "s", 0.4
        _, alexnet = convert("alexnet", folder / "alexnet")
        yield "AlexNet, torch against ONNX Runtime, max abs", parity_of(alexnet, "logits"), "", 1e-6
        converted = [convert("faster_rcnn", folder / "f") for _ in range(runs)]
        wall = statistics.median(wall for wall, _ in converted)
        reports = [report for _, report in converted]
        detector = reports[-1]
        yield "./run convert --model faster_rcnn, 512x512", wall, "s", 60
        in_stages = statistics.median(
            sum(
                stage.get("seconds") or 0
                for stage in one["stages"]
                if stage["name"] in LIBRARY_STAGES
            )
            for one in reports
        )
        imports = median_of(runs, [str(row_python()), "-c", LIBRARIES])
        yield "  of it outside torch, ONNX Runtime, TensorRT", wall - in_stages - imports, "s", 3
        yield "  peak memory", detector["peak_memory_bytes"] / 2**30, "GiB", 4
        yield "  boxes, max abs", parity_of(detector, "boxes"), "px", 0.05
        yield "  scores, max abs", parity_of(detector, "scores"), "", 1e-3
        (found,) = detector["detections"]
        yield "  detections not matched", found["reference"] - found["matched"], "", 0
        yield "  labels that differ", found["matched"] - found["labels_equal"], "", 0
        sys.stderr.write(f"detections: {found['reference']}\n")


def from_nothing():
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = {**os.environ, "UV_CACHE_DIR": str(Path(name) / "cache")}
        wall, _ = convert(
            "alexnet", Path(name) / "out", environment=environment, runner=str(clone / "run")
        )
        shutil.rmtree(name, ignore_errors=True)
        return "first ./run convert --model alexnet, from nothing", wall, "s", 240


def rebuilds():
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        build = [str(clone / "run"), "build"]
        for turn in ("prime the cache", "measure"):
            for kind, target in (("trtyard/pipeline/convert.py", 15), ("plugins/*/*.cu", 60)):
                file = sorted(clone.glob(kind))[0]
                comment = "#" if file.suffix == ".py" else "//"
                # A unique edit: the builder may still have those of earlier runs in its cache.
                file.write_text(f"{file.read_text()}\n{comment} {uuid.uuid4()}\n")
                wall = seconds(build, stderr=subprocess.DEVNULL)
                if turn == "measure":
                    yield f"image again after editing {kind}", wall, "s", target


def show(what, value, unit, target):
    met = "met" if value <= target else "NOT MET"
    print(f"{what:52} {value:10.4g} {unit:4} target {target:g} {unit:4} {met}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--from-nothing", action="store_true")
    parser.add_argument("--image", action="store_true")
    options = parser.parse_args()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    print(f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.platform()}")
    if options.from_nothing:
        show(*from_nothing())
    for figure in [*(rebuilds() if options.image else ()), *measure(options.runs)]:
        show(*figure)


if __name__ == "__main__":
    main()
