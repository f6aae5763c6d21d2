"""Export one model with one exporter and opset, or build one ONNX file with TensorRT for RTX.

Runs in the row's Python (3.6 or newer) in a separate process, so that a crash is a result too.
Prints a line of JSON when a stage starts and one when it ends; bench/zoo.py reads them.

    python bench/zoo_case.py export --row-file row.json --model resnet18 --exporter torchscript \\
        --opset 17 --file model.onnx
    python bench/zoo_case.py build --file model.onnx
"""

import argparse
import faulthandler
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Memory limit of one case in bytes, to protect the machine.
MEMORY = 10 << 30
# How many characters of an error go into a result.
MOST_WORDS = 6000

# Copies, because exporters redirect the process's stdout and stderr.
OUT, ERR = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(2), "w")


def say(**facts):
    OUT.write(json.dumps(facts) + "\n")
    OUT.flush()


class Stage:
    """Prints when a stage starts and how it ends; a failure ends the process with exit code 0."""

    def __init__(self, name):
        self.name, self.facts = name, {}

    def __enter__(self):
        say(stage=self.name, status="begun")
        self.start = time.time()
        return self.facts

    def __exit__(self, kind, error, trace):
        self.facts.update(stage=self.name, seconds=round(time.time() - self.start, 1))
        if error is None:
            say(status="passed", **self.facts)
            return
        words = words_of(error)
        self.facts.update(error=first_line(error), words=words[-MOST_WORDS:])
        say(status="failed", **self.facts)
        OUT.flush()
        os._exit(0)


def words_of(error):
    """Return the messages of an error and its causes, oldest first."""
    words = []
    while error is not None:
        log = getattr(error, "log", None)
        words.insert(0, f"{type(error).__name__}: {error}" + (f"\n{log}" if log else ""))
        error = error.__cause__ or error.__context__
    return "\n".join(words)


def first_line(error):
    words = str(error).replace(f"{ROOT}{os.sep}", "")  # no paths of this machine
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return "; ".join(lines[:4])[:400] or type(error).__name__


def export(options):
    with Stage("import"):
        import onnx
        import torch

        from trtyard.pipeline.conversion import outputs_of
        from trtyard.pipeline.export.exporter import export_onnx
        from trtyard.pipeline.models.registry import load_model
        from trtyard.pipeline.onnx_model.one_node import inner_ops
        from trtyard.pipeline.onnx_model.runner import run_onnx
        from trtyard.pipeline.parity.comparison import compare_outputs
        from trtyard.pipeline.row import read_row
        from trtyard.pipeline.symptoms import tied_keypoints
        from trtyard.pipeline.torch_support.patches import releases_of, symbolics

        torch.set_num_threads(options.threads)
    row = read_row(options.row_file)
    with Stage("torch"):
        model = load_model(options.model, size=options.size)
        expected = outputs_of(model)
    with Stage("export") as facts, symbolics(patched=False, releases=releases_of(row)):
        names = model.input_names, model.output_names
        exported = export_onnx(
            model.to_export, model.inputs, *names, options.exporter, options.opset, options.file
        )
        nodes = onnx.load(str(options.file)).graph.node
        ops = sorted({op for node in nodes for op in (node.op_type, *inner_ops(node))})
        facts.update(bytes=options.file.stat().st_size, nodes=exported.nodes, ops=ops)
        facts.update(warnings=[each.text for each in exported.warnings])
    with Stage("onnxruntime"):
        inputs = {name: each.numpy() for name, each in zip(model.input_names, model.inputs)}
        found = run_onnx(options.file, inputs, model.output_names)
    with Stage("parity") as facts:
        compared = compare_outputs(model.kind, ("torch", "onnxruntime"), expected, found)
        facts["passed"] = compared.passed
        facts["symptoms"] = [symptom.name for symptom in tied_keypoints(compared)]
        facts["worst"] = max(
            [share(each, expected) for each in compared.parity if each.max_abs is not None] or [-1]
        )
        facts["problems"] = [problem(each) for each in compared.parity if not each.passed]
        facts["detections"] = [
            {"torch": each.reference, "onnxruntime": each.candidate, "matched": each.matched}
            for each in compared.detections
        ]
        facts["problems"] += [each.problem for each in compared.detections if each.problem]


def problem(parity):
    differ = f"{parity.mismatches} of {parity.elements} differ"
    return f"{parity.output}: {parity.problem or differ}"


def share(parity, expected):
    """Return the largest difference as a share of the largest value of that output."""
    values = expected[parity.output]
    largest = float(abs(values).max()) if values.size else 0.0
    return parity.max_abs / largest if largest else parity.max_abs


def build(options):
    with Stage("import"):
        from trtyard.pipeline.tensorrt.engine import build_engine
    with Stage("engine") as facts, tempfile.TemporaryDirectory() as folder:
        engine = build_engine(options.file, Path(folder, "model.engine"))
        facts.update(bytes=engine.bytes, layers=engine.layers, plugins=list(engine.plugin_layers))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["export", "build"])
    parser.add_argument("--row-file", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--size", type=int)
    parser.add_argument("--exporter")
    parser.add_argument("--opset", type=int)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable(ERR)
    (export if options.what == "export" else build)(options)
    OUT.flush()
    os._exit(0)  # skip the libraries' cleanup: a crash there is no result


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
