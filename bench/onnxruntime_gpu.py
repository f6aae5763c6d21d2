"""Time Faster R-CNN R50-C4 in ONNX Runtime on a GPU, with function bodies and with the kernels.

    python3 bench/onnxruntime_gpu.py --library libtrtyard_ort.so [--side 800] [--batch 1 8]

Needs a GPU, torch, torchvision, onnx, onnxscript and onnxruntime-gpu. The library is that of
``./run plugins --for onnxruntime``, compiled for this GPU. Uses seeded weights, 1000 proposals per
image, and PyTorch with TF32 off. Each line has the median of a run whose input and outputs stay on
the GPU, the time to create the session, the device's memory that it took (of ONNX Runtime with its
CUDA context), and how many of PyTorch's detections are matched. fp16
needs onnxruntime 1.32 or newer, whose converter no longer gives two casts of a tensor one name.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402

from trtyard.pipeline import ops  # noqa: E402
from trtyard.pipeline.export.exporter import export_onnx  # noqa: E402
from trtyard.pipeline.models.faster_rcnn.load import load_faster_rcnn  # noqa: E402
from trtyard.pipeline.models.model import Model  # noqa: E402
from trtyard.pipeline.models.weights import choose  # noqa: E402
from trtyard.pipeline.onnxruntime_cuda.process import Asked, running  # noqa: E402
from trtyard.pipeline.parity.detections import match_detections  # noqa: E402
from trtyard.pipeline.parity.padded import unpadded  # noqa: E402
from trtyard.pipeline.precision.graph import constants_as_initializers, name_nodes  # noqa: E402
from trtyard.pipeline.precision.half import ops_without_kernel, to_half  # noqa: E402
from trtyard.pipeline.precision.kept import kept_nodes  # noqa: E402

REPEATS = 15
WARM_UP = 3
OPSET = 18


class Outcome(NamedTuple):
    """What one runtime gave."""

    outputs: dict[str, np.ndarray]
    milliseconds: float
    started: float  # seconds to create it
    used: float  # MB of the device's memory


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


def in_torch(model: Model, half: bool, compiled: bool) -> Outcome:
    module = model.module.cuda()
    images = model.inputs[0].cuda()
    free = torch.cuda.mem_get_info()[0]
    begin = time.perf_counter()
    run = torch.compile(module) if compiled else module

    def forward() -> object:
        with torch.no_grad(), torch.autocast("cuda", torch.float16, enabled=half):
            return run(images)

    values = forward()
    torch.cuda.synchronize()
    started = time.perf_counter() - begin
    median = median_of(forward)
    outputs = {
        name: value.float().cpu().numpy()
        for name, value in zip(model.output_names, values, strict=True)
    }
    used = (free - torch.cuda.mem_get_info()[0]) / 1e6
    return Outcome(outputs, median, started, used)


def in_onnxruntime(model: Model, file: Path, library: Path | None, graph: bool) -> Outcome:
    inputs = {name: one.numpy() for name, one in zip(model.input_names, model.inputs, strict=True)}
    free = torch.cuda.mem_get_info()[0]
    with running(Asked(file, inputs, library, graph)) as ran:
        median = statistics.median([ran.run() for _ in range(WARM_UP + REPEATS)][WARM_UP:])
        used = (free - torch.cuda.mem_get_info()[0]) / 1e6
        return Outcome(ran.outputs, median, ran.seconds, used)


def matched(reference: Outcome, found: Outcome, batch: int) -> str:
    """Return how many detections have a match with IoU 0.5, and the largest differences."""
    pairs = [
        match_detections(
            ("torch", "onnxruntime"),
            unpadded(reference.outputs, image),
            unpadded(found.outputs, image),
        )
        for image in range(batch)
    ]
    same = sum(pair.labels_equal for pair in pairs)
    box = max((pair.worst_box_diff or 0.0 for pair in pairs), default=0.0)
    score = max((pair.worst_score_diff or 0.0 for pair in pairs), default=0.0)
    total = sum(pair.reference for pair in pairs)
    return f"{same} of {total} detections, boxes within {box:.2g} px, scores {score:.2g}"


def half_of(file: Path) -> Path:
    """Write the file in float16, with the nodes in fp32 that ``--precision fp16`` keeps."""
    model = onnx.load(str(file))
    name_nodes(model.graph)
    constants_as_initializers(model.graph)
    kept = kept_nodes(model.graph, True, ops_without_kernel())
    half = file.with_suffix(".fp16.onnx")
    onnx.save(to_half(model, kept).model, str(half))
    return half


def report(
    words: str, run: Callable[[], Outcome], reference: Outcome | None, batch: int
) -> Outcome:
    outcome = run()
    said = matched(reference, outcome, batch) if reference else "the reference"
    print(
        f"{words:44s} {outcome.milliseconds:8.2f} ms, start {outcome.started:6.2f} s, "
        f"{outcome.used:7.0f} MB more in use, {said}",
        flush=True,
    )
    return outcome


def rows(side: int, batch: int, library: Path, scratch: Path) -> None:
    shape = f"{batch}x3x{side}x{side}"
    model = load_faster_rcnn(choose("seeded"), None, None, 1000, shape)
    file = scratch / f"{shape}.onnx"
    names = model.input_names, model.output_names
    export_onnx(model.module, model.inputs, *names, "dynamo", OPSET, file)
    half_file = half_of(file)
    ops.use_kernels(library)
    reference = report(
        f"{shape} fp32 torch eager", lambda: in_torch(model, False, False), None, batch
    )
    for half in (False, True):
        kind = f"{shape} {'fp16' if half else 'fp32'}"
        own = half_file if half else file

        def timed(words: str, run: Callable[[], Outcome], kind: str = kind) -> None:
            try:
                report(f"{kind} {words}", run, reference, batch)
            except Exception as error:  # the others are still measured
                print(f"{kind} {words}: {type(error).__name__}: {str(error)[:300]}", flush=True)

        if half:
            timed("torch eager", lambda: in_torch(model, True, False))
        timed("torch compiled", lambda half=half: in_torch(model, half, True))
        for words, used, graph in (
            ("onnxruntime, function bodies", None, False),
            ("onnxruntime, kernels", library, False),
            ("onnxruntime, kernels, CUDA graph", library, True),
        ):
            timed(
                words,
                lambda own=own, used=used, graph=graph: in_onnxruntime(model, own, used, graph),
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--side", type=int, nargs="+", default=[800])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, "
        f"onnxruntime {onnxruntime.__version__}, {onnxruntime.get_available_providers()}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for side in options.side:
            for batch in options.batch:
                rows(side, batch, options.library, Path(scratch))


if __name__ == "__main__":
    main()
