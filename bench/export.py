"""Compare the CPU time of padded detectors' exports with that of unmodified ones.

    PYTHONPATH=. OMP_NUM_THREADS=1 PYTHON bench/export.py [--runs 3] [NAME...]

PYTHON is the one of the row's environment: .trtyard/rows/ROW/HASH/venv/bin/python. Each export is a
process of its own, on an idle machine. Its time is user and system time from the loaded model to
the written file. Prints the medians, and the ratio of padded to dynamic detections.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGET = 1.5


def export_once(name, detections):
    """Export a detector with seeded weights, and print the seconds."""
    from trtyard.pipeline.export.exporter import export_onnx
    from trtyard.pipeline.models.torchvision_detector import load_detector
    from trtyard.pipeline.models.weights import Choice

    model = load_detector(name, Choice(None, 0), None, None, detections=detections)
    names = model.input_names, model.output_names
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        start = time.process_time()
        export_onnx(model.to_export, model.inputs, *names, model.exporter, 18, file)
        print(time.process_time() - start)


def seconds(name, detections):
    command = [sys.executable, __file__, "--once", detections, name]
    done = subprocess.run(command, check=True, capture_output=True)
    return float(done.stdout.split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--once", choices=["padded", "dynamic"], help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: every detector")
    options = parser.parse_args()
    if options.once:
        export_once(options.names[0], options.once)
        return
    from trtyard.pipeline.torch_support.versions import detector_names

    for name in options.names or detector_names():
        taken = {"padded": [], "dynamic": []}
        for _ in range(options.runs):
            for detections, found in taken.items():
                found.append(seconds(name, detections))
        padded, dynamic = (statistics.median(found) for found in taken.values())
        ratio = padded / dynamic
        met = "met" if ratio <= TARGET else "NOT MET"
        print(f"{name:40} padded {padded:5.1f} s  dynamic {dynamic:5.1f} s  {ratio:.2f}  {met}")


if __name__ == "__main__":
    main()
