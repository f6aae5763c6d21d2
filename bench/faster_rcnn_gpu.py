"""Time Faster R-CNN R50-C4 in PyTorch with torchvision's ops and with the kernel cores.

    python3 bench/faster_rcnn_gpu.py [--library LIB.so] [--batch N ...] [--dtype D ...] [--compiled]

Needs a GPU, torch, torchvision, nvcc and g++. Uses 800 x 800 pixels, seeded weights and 1000
proposals per image; float16 is torch.autocast. Each line has the time of the forward pass (eager),
of the two ops in it (CUDA events around each call), and their share. ``--compiled`` adds the time
of the forward pass with torch.compile.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import timing  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402

from trtyard.core.plugins.compile_plugins import LIBRARY_NAME, compile_plugins  # noqa: E402
from trtyard.pipeline import ops  # noqa: E402
from trtyard.pipeline.models.faster_rcnn import detections, proposals  # noqa: E402
from trtyard.pipeline.models.faster_rcnn.network import FasterRCNN  # noqa: E402
from trtyard.pipeline.models.faster_rcnn.seeded import seed_weights  # noqa: E402

SIDE = 800  # pixels
REPEATS = 9
PIXEL_SPREAD = 60.0  # standard deviation of the input, about that of a normalized picture


def torchvision_nms(boxes, scores, iou_threshold, score_threshold, keep_top_k, box_offset):
    """Return PaddedNMS's outputs with torchvision, image by image, with the syncs that it needs."""
    batch, classes, count = scores.shape
    indices = torch.full((batch, keep_top_k), -1, dtype=torch.int32, device=scores.device)
    kept = torch.zeros(batch, dtype=torch.int32, device=scores.device)
    offset = torch.tensor([0.0, 0.0, box_offset, box_offset], device=scores.device)
    for image in range(batch):
        flat = scores[image].reshape(-1)
        passing = (flat > score_threshold).nonzero()[:, 0]
        own = boxes[image].expand(classes, count, 4).reshape(-1, 4)[passing].float() + offset
        labels = passing // count
        found = torchvision.ops.batched_nms(own, flat[passing].float(), labels, iou_threshold)
        found = passing[found[:keep_top_k]]
        indices[image, : len(found)] = found.int()
        kept[image] = len(found)
    return indices, kept


def torchvision_roi_align(features, rois, images, height, width, scale, sampling, aligned):
    """Return MaskRcnnROIAlign's output with torchvision, which has no padding."""
    places = torch.cat([images.clamp(min=0)[:, None].to(rois.dtype), rois], 1).to(features.dtype)
    ratio = sampling if sampling > 0 else -1
    return torchvision.ops.roi_align(features, places, (height, width), scale, ratio, bool(aligned))


class Noted:
    """An op that records CUDA events around each call."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function
        self.events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def __call__(self, *arguments: object) -> object:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        result = self.function(*arguments)
        end.record()
        self.events.append((start, end))
        return result

    def milliseconds(self) -> float:
        torch.cuda.synchronize()
        return sum(start.elapsed_time(end) for start, end in self.events)


def use(nms: Callable[..., object], roi: Callable[..., object]) -> None:
    """Make the network call these ops."""
    proposals.padded_nms = nms
    detections.padded_nms = nms
    detections.roi_align = roi


def rows(batch: int, half: bool, compiled: bool) -> None:
    network = FasterRCNN(proposals.ImageShape(batch, SIDE, SIDE), 1000)
    seed_weights(network, 0)
    network = network.cuda().eval()
    images = torch.randn(batch, 3, SIDE, SIDE, device="cuda") * PIXEL_SPREAD
    for name, nms, roi in (
        ("torchvision", torchvision_nms, torchvision_roi_align),
        ("ours", ops.padded_nms, ops.roi_align),
    ):
        use(nms, roi)

        def forward(run: Callable[..., object] = network) -> object:
            with torch.no_grad(), torch.autocast("cuda", torch.float16, enabled=half):
                return run(images)

        eager = timing.plain([forward], REPEATS).median / 1e3
        shares = []
        for _ in range(REPEATS):
            noted = Noted(nms), Noted(roi)
            use(*noted)
            forward()
            shares.append([one.milliseconds() for one in noted])
        shares.sort(key=sum)
        nms_time, roi_time = shares[len(shares) // 2]
        line = (
            f"batch {batch} {'float16' if half else 'float32'} {name:12s} eager {eager:8.2f} ms, "
            f"nms {nms_time:7.3f}, roi_align {roi_time:7.3f}, "
            f"share {100 * (nms_time + roi_time) / eager:5.1f} %"
        )
        use(nms, roi)
        if compiled:
            torch.compiler.reset()
            whole = torch.compile(network)
            time = timing.plain([lambda run=whole: forward(run)], REPEATS).median / 1e3
            line += f", compiled {time:8.2f} ms"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    del network
    torch.cuda.empty_cache()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, help="a compiled library; default: compile one")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--compiled", action="store_true", help="also through torch.compile")
    parser.add_argument("--dtype", nargs="+", choices=["float16", "float32"])
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.library
        if path is None:
            major, minor = torch.cuda.get_device_capability()
            path = Path(folder) / LIBRARY_NAME
            compile_plugins(REPOSITORY / "plugins", path, [f"{major}{minor}"])
        ops.use_kernels(path)
        for dtype in arguments.dtype or ["float16", "float32"]:
            for batch in arguments.batch:
                rows(batch, dtype == "float16", arguments.compiled)
    return 0


if __name__ == "__main__":
    sys.exit(main())
