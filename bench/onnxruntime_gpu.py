"""Time a detector in ONNX Runtime on a GPU, with function bodies and with the kernels.

    python3 bench/onnxruntime_gpu.py --library libtrtyard_ort.so [--side 800] [--batch 1 8]
        [--model fasterrcnn_resnet50_fpn] [--dtype float32 float16] [--share] [--eager]

Needs a GPU, torch, torchvision, onnx, onnxscript and onnxruntime-gpu. The library is that of
``./run plugins --for onnxruntime``, compiled for this GPU. Uses seeded weights, PyTorch with TF32
off, and in Faster R-CNN R50-C4 (the default model) 1000 proposals per image. torchvision's
detectors have one image per batch: PyTorch runs them unchanged, and in their padded form with the
kernels.

Each line has the median of a run whose input and outputs stay on the GPU, the time to start
(compile the model, create the session), the most memory of the device in use (ONNX Runtime's
without its CUDA context), and how many of PyTorch's detections are matched. ``--share`` adds the
custom ops' part of the GPU's time in ONNX Runtime, and the kernels that take longest. ``--eager``
leaves out torch.compile, which can take 100 s for one of torchvision's detectors. float16 needs
the converter of onnxruntime 1.32 or newer, which no longer gives two casts of a tensor one name.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
from torch import nn  # noqa: E402

from trtyard.pipeline import ops  # noqa: E402
from trtyard.pipeline.export.exporter import export_onnx  # noqa: E402
from trtyard.pipeline.models.families import kind_of  # noqa: E402
from trtyard.pipeline.models.model import Model  # noqa: E402
from trtyard.pipeline.models.registry import load_model  # noqa: E402
from trtyard.pipeline.models.static_detectors import forms, rewriting  # noqa: E402
from trtyard.pipeline.onnxruntime_cuda.child import CUDA_SETTINGS  # noqa: E402
from trtyard.pipeline.onnxruntime_cuda.process import Asked, running  # noqa: E402
from trtyard.pipeline.parity.detections import match_detections  # noqa: E402
from trtyard.pipeline.precision.half import prepare, to_half  # noqa: E402

REPEATS = 15
WARM_UP = 3
OPSET = 18
OWN = "faster_rcnn"
MEGABYTE = 1e6
# Starts CUDA, says so, and waits.
CONTEXT = "import torch; torch.zeros(1, device='cuda'); print(flush=True); input()"
LONGEST = 12  # kernels that --share lists


class Outcome(NamedTuple):
    """What one runtime gave."""

    outputs: dict[str, np.ndarray]
    milliseconds: float
    started: float  # seconds until the first result (PyTorch), or to create the session
    used: float  # MB of the device's memory


class Subject(NamedTuple):
    """A detector and its files."""

    model: Model
    files: dict[str, Path]  # by the type of its tensors


def median_of(forward: Callable[[], object]) -> float:
    """Return the milliseconds of a call with everything that it put on the GPU."""
    times = []
    for number in range(WARM_UP + REPEATS):
        begin = time.perf_counter()
        forward()
        torch.cuda.synchronize()
        if number >= WARM_UP:
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def in_torch(model: Model, module: nn.Module, dtype: str, compiled: bool) -> Outcome:
    torch.compiler.reset()
    module = module.cuda()
    images = model.inputs[0].cuda()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    run = torch.compile(module) if compiled else module

    def forward() -> Any:
        with torch.no_grad(), torch.autocast("cuda", torch.float16, enabled=dtype == "float16"):
            return run(images)

    values = forward()
    torch.cuda.synchronize()
    started = time.perf_counter() - begin
    median = median_of(forward)
    outputs = {
        name: (value.float() if value.is_floating_point() else value).cpu().numpy()
        for name, value in zip(model.output_names, values, strict=True)
    }
    return Outcome(outputs, median, started, torch.cuda.max_memory_reserved() / MEGABYTE)


def context_size() -> float:
    """Return the MB that a process takes on the device for its CUDA context."""
    free = torch.cuda.mem_get_info()[0]
    command = [sys.executable, "-c", CONTEXT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used = (free - torch.cuda.mem_get_info()[0]) / MEGABYTE
        process.communicate(b"\n")
    return used


def inputs_of(model: Model) -> dict[str, np.ndarray]:
    values = zip(model.input_names, model.inputs, strict=True)
    return {name: one.cpu().numpy() for name, one in values}


def in_onnxruntime(
    model: Model, file: Path, library: Path | None, graph: bool, context: float
) -> Outcome:
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]
    with running(Asked(file, inputs_of(model), library, graph)) as ran:
        median = statistics.median([ran.run() for _ in range(WARM_UP + REPEATS)][WARM_UP:])
        used = (free - torch.cuda.mem_get_info()[0]) / MEGABYTE - context
        return Outcome(ran.outputs, median, ran.seconds, used)


def share_of_ops(model: Model, file: Path, library: Path) -> str:
    """Return the custom ops' part of the GPU's time in ONNX Runtime, and the longest kernels."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.register_custom_ops_library(str(library))
    providers = [("CUDAExecutionProvider", CUDA_SETTINGS), "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(file), options, providers=providers)
    binding = session.io_binding()
    for name, value in inputs_of(model).items():
        place = onnxruntime.OrtValue.ortvalue_from_numpy(value, "cuda", 0)
        binding.bind_ortvalue_input(name, place)
    for one in session.get_outputs():
        binding.bind_output(one.name, "cuda")
    for _ in range(WARM_UP):
        session.run_with_iobinding(binding)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        session.run_with_iobinding(binding)
        torch.cuda.synchronize()
    times = {
        one.key: (one.device_time_total / 1e3, one.count)
        for one in profile.key_averages()
        if one.device_time_total > 0
    }
    total = sum(each for each, _ in times.values())
    own = sum(each for key, (each, _) in times.items() if "trtyard" in key)
    lines = [f"custom ops {own:.3f} of {total:.3f} ms on the GPU, {100 * own / total:.1f} %"]
    longest = sorted(times.items(), key=lambda item: -item[1][0])[:LONGEST]
    lines += [f"    {each:8.3f} ms {count:4d} x {key[:90]}" for key, (each, count) in longest]
    return "\n".join(lines)


def matched(model: Model, reference: Outcome, found: Outcome) -> str:
    """Return how many detections have a match with IoU 0.5, and the largest differences."""
    detections = kind_of(model.kind).detections
    assert detections is not None
    pairs = [
        match_detections(("torch", "found"), *images)
        for images in zip(detections(reference.outputs), detections(found.outputs), strict=True)
    ]
    same = sum(pair.labels_equal for pair in pairs)
    box = max((pair.worst_box_diff or 0.0 for pair in pairs), default=0.0)
    score = max((pair.worst_score_diff or 0.0 for pair in pairs), default=0.0)
    total = sum(pair.reference for pair in pairs)
    return f"{same} of {total} detections, boxes within {box:.2g} px, scores {score:.2g}"


def half_of(file: Path) -> Path:
    """Write the file in float16, with the nodes in fp32 that ``--precision fp16`` keeps."""
    model = onnx.load(str(file))
    kept = prepare(model.graph, True)
    half = file.with_suffix(".fp16.onnx")
    onnx.save(to_half(model, kept).model, str(half))
    return half


def subject(name: str, side: int, batch: int, dtypes: Sequence[str], scratch: Path) -> Subject:
    if name == OWN:
        shape = f"{batch}x3x{side}x{side}"
        model = load_model(name, input_shape=shape, top_n=1000)
    else:
        model = load_model(name, size=side)
    file = scratch / f"{name}-{side}-{batch}.onnx"
    names = model.input_names, model.output_names
    exporter = model.exporter or "dynamo"
    export_onnx(model.to_export, model.inputs, *names, exporter, OPSET, file)
    files = {"float32": file}
    if "float16" in dtypes:
        files["float16"] = half_of(file)
    return Subject(model, files)


def rows(one: Subject, library: Path, options: argparse.Namespace, context: float) -> None:
    """Print a line for each runtime and type."""
    model = one.model
    shape = "x".join(map(str, model.inputs[0].shape))
    reference: Outcome | None = None

    def timed(words: str, run: Callable[[], Outcome]) -> None:
        nonlocal reference
        try:
            outcome = run()
        except Exception as error:  # the others are still measured
            print(f"{words}: {type(error).__name__}: {str(error)[:300]}", flush=True)
            return
        reference = reference or outcome
        print(
            f"{words:60s} {outcome.milliseconds:8.2f} ms, start {outcome.started:6.2f} s, "
            f"{outcome.used:6.0f} MB, {matched(model, reference, outcome)}",
            flush=True,
        )

    for dtype, file in one.files.items():
        kind = f"{model.name} {shape} {dtype}"
        modules = {"": model.module}
        if model.static_form is not None and dtype == "float32":  # its constants are beyond float16
            modules[" padded"] = model.static_form
        for words, module in modules.items():
            for compiled in (False,) if options.eager else (False, True):
                how = "compiled" if compiled else "eager"
                timed(
                    f"{kind} torch {how}{words}",
                    lambda module=module, dtype=dtype, compiled=compiled: in_torch(
                        model, module, dtype, compiled
                    ),
                )
        runs = [
            ("function bodies", None, False),
            ("kernels", library, False),
            ("kernels, CUDA graph", library, True),
        ]
        for words, used, graph in runs:
            timed(
                f"{kind} onnxruntime, {words}",
                lambda file=file, used=used, graph=graph: in_onnxruntime(
                    model, file, used, graph, context
                ),
            )
        if options.share:
            print(f"{kind} {share_of_ops(model, file, library)}", flush=True)


def accept_this_torchvision() -> None:
    """Use the replacements of another release if the replaced functions have the same source.

    ``rewriting.refuse_unknown`` still compares the sources' hashes.
    """
    release = rewriting.torchvision_release()
    known = forms.FORMS["torchvision.models.detection.faster_rcnn.FasterRCNN"]
    if release not in known:
        print(f"torchvision {torchvision.__version__}: replacements of {list(known)[-1]}")
        forms.torchvision_release = lambda: list(known)[-1]
        rewriting.torchvision_release = forms.torchvision_release


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--model", default=OWN, help="or one of torchvision's detectors")
    parser.add_argument("--side", type=int, nargs="+", default=[800])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--dtype", nargs="+", default=["float32", "float16"])
    parser.add_argument("--share", action="store_true", help="the custom ops' part of the time")
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, "
        f"onnxruntime {onnxruntime.__version__}, {onnxruntime.get_available_providers()}"
    )
    accept_this_torchvision()
    context = context_size()
    print(f"a CUDA context takes {context:.0f} MB")
    with tempfile.TemporaryDirectory() as scratch:
        for side in options.side:
            for batch in options.batch if options.model == OWN else [1]:
                one = subject(options.model, side, batch, options.dtype, Path(scratch))
                ops.use_kernels(options.library)
                rows(one, options.library, options, context)


if __name__ == "__main__":
    main()
