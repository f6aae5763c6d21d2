"""Time the kernel cores on this machine's GPU, and compare with torchvision and a memory copy.

    python3 bench/kernels.py [--library LIB.so] [--only nms|roi] [--words WORDS] [--json FILE]

Needs a GPU, torch, torchvision, nvcc and g++. Every call has its own random inputs, and the calls
of a round use more memory than the L2 cache. The targets are in docs/kernels.md. Exit code 1: a
target is missed.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import timing  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402

from trtyard.core.plugins.compile_plugins import LIBRARY_NAME, compile_plugins  # noqa: E402
from trtyard.pipeline.ops.kernels import KernelLibrary  # noqa: E402
from trtyard.pipeline.ops.multiscale_roi_align_op.kernel import arguments_of  # noqa: E402
from trtyard.pipeline.ops.multiscale_roi_align_op.reference import levels_of  # noqa: E402

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
PICTURE = 800  # pixels a side
TORCH_FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
FORMATS = {"NCHW": 0, "NHWC": 1}
TORCHVISION_REPEATS = 7
PADDED_SLACK = 1.4
PYRAMID_SLACK = 1.5


class Row(NamedTuple):
    case: str
    graphed: timing.Time
    plain: timing.Time
    torchvision: timing.Time | None
    floor: float | None  # microseconds to copy the same number of bytes
    target: float | None

    def met(self) -> bool | None:
        return None if self.target is None else self.graphed.median <= self.target


def random_boxes(*shape: int, largest: float = 200.0) -> torch.Tensor:
    """Return random boxes (x1, y1, x2, y2), with sides from 1 to ``largest`` pixels."""
    corner = torch.rand(*shape, 2, device="cuda") * (PICTURE - largest)
    side = torch.rand(*shape, 2, device="cuda") * (largest - 1) + 1
    return torch.cat([corner, corner + side], -1).contiguous()


def measure(
    case: str,
    make: Callable[[], Callable[[], object]],
    bytes_a_call: int,
    torchvision_call: Callable[[], Callable[[], object] | None] | None = None,
    floor: float | None = None,
    target: float | None = None,
) -> Row:
    calls = [make() for _ in range(timing.buffer_sets(bytes_a_call))]
    graphed, plain = timing.graphed(calls), timing.plain(calls)
    del calls
    torch.cuda.empty_cache()
    other = None
    others = [] if torchvision_call is None else [torchvision_call() for _ in range(2)]
    if others and others[0] is not None:
        other = timing.plain([call for call in others if call is not None], TORCHVISION_REPEATS)
    row = Row(case, graphed, plain, other, floor, target)
    show(row)
    return row


def nms_call(
    library: KernelLibrary, classes: int, count: int, keep: int, iou: float, above: float,
    largest: float,
) -> Callable[[], object]:  # fmt: skip
    boxes = random_boxes(1, classes, count, largest=largest)
    scores = torch.rand(1, classes, count, device="cuda") * 0.9 + 0.06
    scores = torch.where(torch.rand_like(scores) < above, scores, torch.zeros_like(scores))
    indices = torch.empty(1, keep, dtype=torch.int32, device="cuda")
    kept = torch.empty(1, dtype=torch.int32, device="cuda")
    size = library.size("trtyard_padded_nms_workspace", 1, classes, count, keep)
    workspace = torch.empty(max(1, size), dtype=torch.uint8, device="cuda")

    def call() -> None:
        library.launch(
            "trtyard_padded_nms", boxes.data_ptr(), scores.data_ptr(), indices.data_ptr(),
            kept.data_ptr(), 1, classes, classes, count, keep, iou, 0.05, 0,
            DTYPES[boxes.dtype], workspace.data_ptr(), size,
            torch.cuda.current_stream().cuda_stream,
        )  # fmt: skip

    return call


def torchvision_nms(
    classes: int, count: int, iou: float, above: float, largest: float
) -> Callable[[], object]:
    boxes = random_boxes(classes * count, largest=largest)
    scores = torch.rand(classes * count, device="cuda")
    labels = torch.arange(classes, device="cuda").repeat_interleave(count)
    passing = torch.rand(classes * count, device="cuda") < above
    boxes, scores, labels = boxes[passing], scores[passing], labels[passing]
    if classes == 1:
        return lambda: torchvision.ops.nms(boxes, scores, iou)
    return lambda: torchvision.ops.batched_nms(boxes, scores, labels, iou)


def nms_rows(library: KernelLibrary) -> list[Row]:
    cases = [  # classes, boxes, keep, iou, share above the threshold, largest side, target
        (1, 1000, 100, 0.7, 1.0, 200.0, 15.0),
        (1, 6000, 1000, 0.7, 1.0, 200.0, 60.0),
        (1, 12000, 1000, 0.7, 1.0, 200.0, 120.0),
        (80, 1000, 100, 0.5, 1.0, 200.0, 150.0),
        (80, 1000, 100, 0.5, 0.01, 200.0, 30.0),
        (1, 6000, 1000, 0.3, 1.0, 400.0, None),  # crowded: all candidates are compared
        (1, 12000, 1000, 0.3, 1.0, 400.0, None),
        (1, 1000, 100, 0.3, 1.0, 600.0, None),
    ]
    rows = []
    for classes, count, keep, iou, above, largest, target in cases:
        name = f"nms {classes}x{count}->{keep} iou {iou} above {above:g} sides to {largest:g}"
        rows.append(
            measure(
                name,
                lambda c=classes, n=count, k=keep, i=iou, a=above, s=largest: nms_call(
                    library, c, n, k, i, a, s
                ),
                classes * count * 20,
                lambda c=classes, n=count, i=iou, a=above, s=largest: torchvision_nms(
                    c, n, i, a, s
                ),
                None,
                target,
            )
        )
    return rows


class Map(NamedTuple):
    """A feature map: its size in cells, cells per pixel, and the largest roi side in pixels."""

    name: str
    channels: int
    height: int
    width: int
    scale: float
    largest: float


C4 = Map("", 1024, 50, 50, 1 / 16, 200.0)  # ResNet-50 on a picture of 800 x 800
C4_LARGE = Map(" sides to 780", 1024, 50, 50, 1 / 16, 780.0)  # rois up to the whole picture
P2 = Map(" P2 200x304", 256, 200, 304, 1 / 4, 112.0)  # FPN on 800 x 1216: the smallest rois
P3 = Map(" P3 100x152", 256, 100, 152, 1 / 8, 224.0)


class Roi(NamedTuple):
    count: int
    bins: int
    sampling: int
    dtype: torch.dtype
    target: float | None = None  # microseconds; below 2: a multiple of the copy time
    of: Map = C4
    batch: int = 1
    alive: int | None = None
    given: str = "NCHW"
    taken: str = "NCHW"

    def name(self) -> str:
        text = f"roi {self.count}x{self.of.channels}x{self.bins}^2 s{self.sampling}"
        text += f" {str(self.dtype)[6:]} B{self.batch}{self.of.name}"
        formats = "" if self.given == self.taken == "NCHW" else f" {self.given}->{self.taken}"
        alive = "" if self.alive is None else f", {self.alive} alive"
        return text + formats + alive

    def moved(self) -> int:
        cells = self.of.height * self.of.width
        elements = self.of.channels * (self.batch * cells + self.count * self.bins * self.bins)
        return elements * self.dtype.itemsize + self.count * 20

    def features(self) -> torch.Tensor:
        features = torch.randn(
            self.batch, self.of.channels, self.of.height, self.of.width, device="cuda",
            dtype=self.dtype,
        )  # fmt: skip
        return features.contiguous(memory_format=TORCH_FORMATS[self.given])


def roi_call(library: KernelLibrary, case: Roi) -> Callable[[], object]:
    features = case.features()
    rois = random_boxes(case.count, largest=case.of.largest)
    images = torch.randint(0, case.batch, (case.count,), dtype=torch.int32, device="cuda")
    if case.alive is not None:
        images[case.alive :] = -1
    pooled = torch.empty(
        case.count, case.of.channels, case.bins, case.bins, device="cuda", dtype=case.dtype
    )  # the same size in both formats
    sizes = (*features.shape, case.count, case.bins, case.bins)
    size = library.size("trtyard_roi_align_workspace", *sizes)
    workspace = torch.empty(max(1, size), dtype=torch.uint8, device="cuda")

    def call() -> None:
        library.launch(
            "trtyard_roi_align", features.data_ptr(), rois.data_ptr(), images.data_ptr(),
            pooled.data_ptr(), *sizes, case.of.scale, case.sampling, 0, 0, DTYPES[case.dtype],
            FORMATS[case.given], FORMATS[case.taken], workspace.data_ptr(), size,
            torch.cuda.current_stream().cuda_stream,
        )  # fmt: skip

    return call


def torchvision_roi(case: Roi) -> Callable[[], object] | None:
    if case.dtype == torch.bfloat16 or case.alive is not None:
        return None  # torchvision has no bfloat16 kernel and no padding
    features = case.features()
    images = torch.randint(0, case.batch, (case.count, 1), device="cuda").float()
    rois = torch.cat([images, random_boxes(case.count, largest=case.of.largest)], 1).to(case.dtype)
    ratio = case.sampling if case.sampling > 0 else -1
    return lambda: torchvision.ops.roi_align(features, rois, case.bins, case.of.scale, ratio, False)


def roi_cases() -> list[Roi]:
    single, half = torch.float32, torch.float16
    slack, adaptive_slack = 1.25, 1.25 * 1.25
    cases = [
        Roi(1000, 14, 2, single, slack),
        Roi(1000, 14, 2, half, slack),
        Roi(1000, 14, 0, single, adaptive_slack),
        Roi(1000, 14, 0, half, adaptive_slack),
        Roi(1000, 7, 2, single, 95.0),
        Roi(1000, 7, 2, half, 50.0),
        Roi(1000, 7, 0, half),
        Roi(100, 14, 2, single, 40.0),
        Roi(100, 14, 2, half, 25.0),
        Roi(1000, 14, 2, torch.bfloat16, slack),
        Roi(1000, 14, 2, half, of=C4_LARGE),
        Roi(1000, 14, 0, half, of=C4_LARGE),
        Roi(1000, 7, 0, half, of=C4_LARGE),
        Roi(2000, 14, 2, half, batch=4),
    ]
    cases += [
        Roi(1000, 7, sampling, dtype, of=of)
        for of in (P2, P3)
        for dtype in (single, half)
        for sampling in (2, 0)
    ]
    for dtype in (single, half):
        cases += [
            Roi(1000, 14, 2, dtype, given="NHWC", taken="NHWC"),
            Roi(1000, 7, 2, dtype, given="NHWC", taken="NHWC"),
            Roi(1000, 7, 2, dtype, given="NHWC"),
            Roi(1000, 7, 2, dtype, taken="NHWC"),
            Roi(1000, 7, 2, dtype, of=P2, given="NHWC", taken="NHWC"),
            Roi(1000, 7, 0, dtype, of=P2, given="NHWC", taken="NHWC"),
        ]
    return cases


def roi_rows(library: KernelLibrary, bandwidth: float, words: str) -> list[Row]:
    rows = []
    for case in roi_cases():
        if words not in case.name():
            continue
        floor = case.moved() / bandwidth * 1e6
        is_slack = case.target is not None and case.target < 2
        rows.append(
            measure(
                case.name(),
                lambda c=case: roi_call(library, c),
                case.moved(),
                lambda c=case: torchvision_roi(c),
                floor,
                case.target * floor if is_slack else case.target,
            )
        )
    return rows


class Pyramid(NamedTuple):
    """MultiscaleRoIAlign over P2 to P5 of a picture of 800 x 1216, one in the batch."""

    dtype: torch.dtype
    format: str
    sampling: int = 2
    count: int = 1000
    channels: int = 256
    bins: int = 7
    target: float | None = PYRAMID_SLACK  # a multiple of the copy time

    def name(self) -> str:
        text = f"pyramid {self.count}x{self.channels}x{self.bins}^2 s{self.sampling}"
        return f"{text} {str(self.dtype)[6:]} {self.format}"

    def maps(self) -> list[torch.Tensor]:
        return [
            torch.randn(
                1, self.channels, *(int(side * scale) for side in PYRAMID_PICTURE), device="cuda",
                dtype=self.dtype,
            ).contiguous(memory_format=TORCH_FORMATS[self.format])
            for scale in PYRAMID_SCALES
        ]  # fmt: skip

    def rois(self) -> torch.Tensor:
        """Return rois in the picture: 16 to 640 pixels, log-uniform, aspects of 1/2 to 2."""
        side = 16 * 40 ** torch.rand(self.count, 1, device="cuda")
        aspect = 2 ** (torch.rand(self.count, 1, device="cuda") - 0.5)
        extent = torch.tensor(PYRAMID_PICTURE[::-1], device="cuda", dtype=torch.float32)
        sides = torch.minimum(torch.cat([side * aspect, side / aspect], 1), extent)
        corner = torch.rand(self.count, 2, device="cuda") * (extent - sides)
        return torch.cat([corner, corner + sides], 1).contiguous()

    def moved(self, rois: torch.Tensor) -> int:
        """Return the bytes of the cells that some sample reads, each once, and of the result."""
        levels = levels_of(rois, PYRAMID_SCALES, 224, 4)
        cells = 0
        for level, scale in enumerate(PYRAMID_SCALES):
            own = rois[levels == level] * scale
            read = []
            for axis in (1, 0):
                size = int(PYRAMID_PICTURE[1 - axis] * scale)
                start, length = own[:, axis], (own[:, axis + 2] - own[:, axis]).clamp(min=1)
                step = length / (self.bins * self.sampling)
                middle = torch.arange(self.bins * self.sampling, device="cuda") + 0.5
                at = (start[:, None] + middle * step[:, None]).clamp(0, size - 1)
                table = torch.zeros(len(own), size, device="cuda")
                table.scatter_(1, at.long(), 1.0)
                table.scatter_(1, (at.long() + 1).clamp(max=size - 1), 1.0)
                read.append(table)
            cells += int((read[0].t() @ read[1] > 0).sum())
        elements = self.channels * (cells + self.count * self.bins**2)
        return elements * self.dtype.itemsize + self.count * 20


PYRAMID_PICTURE = (800, 1216)
PYRAMID_SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)


def pyramid_call(library: KernelLibrary, case: Pyramid) -> Callable[[], object]:
    maps, rois = case.maps(), case.rois()
    images = torch.zeros(case.count, dtype=torch.int32, device="cuda")
    shape = (case.count, case.channels, case.bins, case.bins)
    pooled = torch.empty(shape, device="cuda", dtype=case.dtype)  # the same size in both formats
    size = library.size("trtyard_multiscale_roi_align_workspace", *(case.count, *shape[2:]))
    workspace = torch.empty(max(1, size), dtype=torch.uint8, device="cuda")
    others = (
        rois.data_ptr(), images.data_ptr(), pooled.data_ptr(), 1, case.channels, case.count,
        case.bins, case.bins, case.sampling, 0, 224, 4, DTYPES[case.dtype],
        FORMATS[case.format], FORMATS[case.format],
    )  # fmt: skip
    arguments = arguments_of(
        [each.data_ptr() for each in maps], [tuple(each.shape[2:]) for each in maps],
        PYRAMID_SCALES, others,
    )  # fmt: skip

    def call() -> None:
        library.launch(
            "trtyard_multiscale_roi_align", *arguments, workspace.data_ptr(), size,
            torch.cuda.current_stream().cuda_stream,
        )  # fmt: skip

    call.kept = (maps, rois, images, pooled, workspace)  # type: ignore[attr-defined]
    return call


def torchvision_pyramid(case: Pyramid) -> Callable[[], object] | None:
    if case.dtype == torch.bfloat16:
        return None
    pool = torchvision.ops.MultiScaleRoIAlign(list("0123"), case.bins, case.sampling)
    named = {str(level): each for level, each in enumerate(case.maps())}
    rois = case.rois().to(case.dtype)
    return lambda: pool(named, [rois], [PYRAMID_PICTURE])


def pyramid_rows(library: KernelLibrary, bandwidth: float, words: str) -> list[Row]:
    rows = []
    for layout in FORMATS:
        for dtype in DTYPES:
            case = Pyramid(dtype, layout)
            if words not in case.name():
                continue
            bytes_a_call = case.moved(case.rois())
            floor = bytes_a_call / bandwidth * 1e6
            rows.append(
                measure(
                    case.name(),
                    lambda c=case: pyramid_call(library, c),
                    bytes_a_call,
                    lambda c=case: torchvision_pyramid(c),
                    floor,
                    None if case.target is None else case.target * floor,
                )
            )
    return rows


def padded_rows(library: KernelLibrary, slack: float) -> list[Row]:
    """Return the times for 1000 rois with 60 alive.

    The target is the time to write 940 zero rois and to pool 60 rois.
    """
    rows = []
    for dtype in (torch.float32, torch.float16):
        pooled = 940 * C4.channels * 14 * 14 * dtype.itemsize
        zeros = [
            torch.empty(pooled // 4, device="cuda").zero_ for _ in range(timing.buffer_sets(pooled))
        ]
        writing = timing.graphed(zeros).median
        del zeros
        few, padded = Roi(60, 14, 2, dtype), Roi(1000, 14, 2, dtype, alive=60)
        alone = measure(few.name(), lambda c=few: roi_call(library, c), few.moved())
        rows += [
            alone,
            measure(
                padded.name(),
                lambda c=padded: roi_call(library, c),
                pooled,
                None,
                writing + alone.graphed.median,
                slack * (writing + alone.graphed.median),
            ),
        ]
    return rows


def show(row: Row) -> None:
    def cell(value: float | None) -> str:
        return f"{value:9.1f}" if value is not None else "        -"

    verdict = {None: "", True: "met", False: "NOT MET"}[row.met()]
    spread = f"{row.graphed.low:.1f}-{row.graphed.high:.1f}"
    other = None if row.torchvision is None else row.torchvision.median
    sys.stdout.write(
        f"{row.case:58s}{cell(row.graphed.median)} {spread:>15s}{cell(row.plain.median)}"
        f"{cell(other)}{cell(row.floor)}{cell(row.target)} {verdict}\n"
    )
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, help="a compiled library; default: compile one")
    parser.add_argument("--only", choices=["nms", "roi"])
    parser.add_argument("--words", default="", help="only roi cases whose name contains this")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()
    torch.manual_seed(torch.seed() % 2**31)
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.library
        if path is None:
            major, minor = torch.cuda.get_device_capability()
            path = Path(folder) / LIBRARY_NAME
            compile_plugins(REPOSITORY / "plugins", path, [f"{major}{minor}"])
        library = KernelLibrary(path)
        copy, fill = timing.copy_bandwidth(), timing.fill_bandwidth()
        sys.stdout.write(
            f"{torch.cuda.get_device_name()}, torch {torch.__version__}, torchvision "
            f"{torchvision.__version__}; copy {copy / 1e12:.2f} TB/s, fill {fill / 1e12:.2f} TB/s\n"
            f"microseconds: median in a graph, its deciles, plain launches, torchvision, "
            f"bytes at copy speed, target\n"
        )
        rows: list[Row] = []
        if arguments.only != "roi":
            rows += nms_rows(library)
        if arguments.only != "nms":
            rows += roi_rows(library, copy, arguments.words)
            rows += pyramid_rows(library, copy, arguments.words)
            rows += [] if arguments.words else padded_rows(library, PADDED_SLACK)
    if arguments.json is not None:
        facts: dict[str, object] = {"copy": copy, "fill": fill}
        facts["rows"] = [row._asdict() for row in rows]
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    with_target = [row for row in rows if row.target is not None]
    missed = [row for row in with_target if not row.met()]
    sys.stdout.write(f"{len(with_target) - len(missed)} of {len(with_target)} targets met\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
