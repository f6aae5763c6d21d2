"""The C++ shells, driven as TensorRT drives them, against references and torchvision.

TRTYARD_NVINFER_HEADERS=<folder with NvInfer.h>[:<another release's>...] names what to compile
against, each release in a process of its own; TRTYARD_NVINFER_LIBRARY=<libtensorrt_rtx.so.1> the
library whose registry V3 plugins of 11 go through, where the tensorrt_rtx package is not installed.
V2 plugins meet a registry of the harness's own, V3 plugins of 10 none.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import gpu_reference as reference
import pytest

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

from plugin_harness import HWC, HWC8, Formatted, Harness, Plugin  # noqa: E402 - needs torch

from trtyard.core.errors import EnvironmentLacksError  # noqa: E402
from trtyard.core.plugins.compile_plugins import (  # noqa: E402
    SHELL_LIBRARY_NAME,
    SHELL_LIBRARY_NAME_V2,
    compile_plugins,
    find_nvcc,
    shells_for,
)
from trtyard.core.plugins.cuda_compiler import require_host_compiler  # noqa: E402

HEADERS = "TRTYARD_NVINFER_HEADERS"
LIBRARY = "TRTYARD_NVINFER_LIBRARY"
SOURCES = Path(__file__).parents[2] / "plugins"
SPACES = ["", "trtyard"]
NMS = {"iou_threshold": 0.5, "score_threshold": 0.1, "keep_top_k": 40, "box_offset": 1}
ROI_ALIGN = {
    "output_height": 7, "output_width": 6, "spatial_scale": 1 / 16, "sampling_ratio": 2,
    "aligned": 0,
}  # fmt: skip
MULTISCALE = {
    "output_height": 7, "output_width": 6, "sampling_ratio": 2, "aligned": 0,
    "canonical_scale": 100, "canonical_level": 4, "scale_0": 1 / 16, "scale_1": 1 / 32,
}  # fmt: skip
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}


FOLDERS = [folder for folder in os.environ.get(HEADERS, "").split(os.pathsep) if folder]


@pytest.mark.skipif(len(FOLDERS) < 2, reason=f"{HEADERS} names fewer than two releases")
@pytest.mark.parametrize("folder", FOLDERS)
def test_each_release_passes_in_its_own_process(folder: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True,
        env=dict(os.environ, **{HEADERS: folder}), cwd=str(SOURCES.parent),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout, done.stdout[-3000:]


def rtx_library() -> "Path | None":
    if os.environ.get(LIBRARY):
        return Path(os.environ[LIBRARY])
    found = importlib.util.find_spec("tensorrt_rtx_libs")
    return None if found is None else Path(found.origin).with_name("libtensorrt_rtx.so.1")


def through_registry(headers: Path) -> bool:
    """Whether RTX's registry has the interface of these headers: V3 ones of 11."""
    text = (headers / "NvInferVersion.h").read_text(encoding="utf-8")
    return shells_for(headers) == "cpp-v3" and "TRT_MAJOR_ENTERPRISE 11" in text


@pytest.fixture(scope="module")
def harness(gpu: None, tmp_path_factory: pytest.TempPathFactory) -> Harness:
    if len(FOLDERS) != 1:
        pytest.skip(
            "several releases: each in a process of its own"
            if FOLDERS
            else f"{HEADERS} does not name a folder with TensorRT's headers"
        )
    try:
        find_nvcc()
        require_host_compiler()
    except EnvironmentLacksError as lack:
        pytest.skip(lack.message)
    headers = Path(FOLDERS[0])
    folder = tmp_path_factory.mktemp("shells")
    is_v2 = shells_for(headers) == "cpp-v2"
    tensorrt = rtx_library() if through_registry(headers) else None
    if through_registry(headers) and tensorrt is None:
        pytest.skip(f"no TensorRT for RTX: install tensorrt-rtx-cu13-libs, or set {LIBRARY}")
    plugins = folder / (SHELL_LIBRARY_NAME_V2 if is_v2 else SHELL_LIBRARY_NAME)
    major, minor = torch.cuda.get_device_capability()
    compile_plugins(SOURCES, plugins, [f"{major}{minor}"], headers=headers)
    made = Harness(headers, plugins, tensorrt, folder)
    assert made.is_v2 == is_v2
    return made


def nms_case(dtype=torch.float32, seed=0, count=700, batch=2, classes=3):
    generator = torch.Generator().manual_seed(seed)
    corner = (torch.rand(batch, 1, count, 2, generator=generator) * 300).round()
    size = (torch.rand(batch, 1, count, 2, generator=generator) * 90).round()
    boxes = torch.cat([corner, corner + size], -1).to(dtype)
    scores = torch.rand(batch, classes, count, generator=generator).to(dtype)
    outputs = [torch.full((batch, NMS["keep_top_k"]), 77, dtype=torch.int32, device="cuda"),
               torch.full((batch,), 77, dtype=torch.int32, device="cuda")]  # fmt: skip
    expected = reference.padded_nms(boxes.float().numpy(), scores.float().numpy(), 0.5, 0.1, 40, 1)
    return [boxes.cuda(), scores.cuda()], outputs, expected


def roi_case(dtype=torch.float32, seed=0, count=33):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 12, 25, 30, generator=generator).to(dtype)
    corner = torch.rand(count, 2, generator=generator) * 350
    rois = torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * 150], 1)
    images = torch.randint(-1, 2, (count,), generator=generator, dtype=torch.int32)
    outputs = [torch.full((count, 12, 7, 6), 77, dtype=dtype, device="cuda")]
    expected = reference.roi_align(
        features.float().numpy(), rois.numpy(), images.numpy(), 7, 6, 1 / 16, 2, 0
    )
    return [features.cuda(), rois.cuda(), images.cuda()], outputs, expected


def multiscale_case(dtype=torch.float32, seed=0, count=33):
    (features, rois, images), outputs, _ = roi_case(dtype, seed, count)
    coarse = torch.nn.functional.avg_pool2d(features.float(), 2).to(dtype)
    expected = reference.multiscale_roi_align(
        [features.float().cpu().numpy(), coarse.float().cpu().numpy()], rois.cpu().numpy(),
        images.cpu().numpy(), (7, 6), [1 / 16, 1 / 32], 2, 0, (100, 4),
    )  # fmt: skip
    return [features, *[coarse] * 4, rois, images], outputs, expected


# With optional ones.
ATTRIBUTES = {"PaddedNMS": 4, "MaskRcnnROIAlign": 6, "MultiscaleRoIAlign": 11}
CASES = {
    "PaddedNMS": (NMS, nms_case),
    "MaskRcnnROIAlign": (ROI_ALIGN, roi_case),
    "MultiscaleRoIAlign": (MULTISCALE, multiscale_case),
}


def check(op: str, outputs, expected) -> None:
    torch.cuda.synchronize()
    if op == "PaddedNMS":
        for got, wanted in zip(outputs, expected):
            assert torch.equal(got.cpu(), torch.from_numpy(wanted))
    else:
        got, wanted = outputs[0].double().cpu(), torch.from_numpy(expected)
        assert (got - wanted).norm() <= TOLERANCE[outputs[0].dtype] * wanted.norm()


def ready(plugin: Plugin, inputs, outputs) -> torch.Tensor:
    """Configure, and return the workspace that the plugin asks, poisoned."""
    size = plugin.configure(inputs, outputs)
    assert size >= 0
    return torch.full((max(1, size),), 0xA5, dtype=torch.uint8, device="cuda")


def types_of(harness: Harness) -> list:
    return [torch.float32, torch.float16] + ([] if harness.is_v2 else [torch.bfloat16])


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("op", CASES)
def test_plugin_round_trips_through_an_engine(harness: Harness, op, space) -> None:
    attributes, case = CASES[op]
    built = harness.create(op, space, attributes)
    assert built is not None
    for dtype in types_of(harness):
        inputs, outputs, expected = case(dtype)
        workspace = ready(built, inputs, outputs)
        context = built.attach()
        assert context.enqueue(inputs, outputs, workspace) == 0
        check(op, outputs, expected)
        context.destroy()
    stored = built.store()
    assert stored > 0
    built.destroy()  # nothing later may point into it
    loaded = harness.restore(op, space)
    assert loaded is not None
    context = loaded.attach()
    loaded.destroy()
    for seed in (1, 2):  # another shape on the second: what a context of a dynamic engine meets
        inputs, outputs, expected = case(seed=seed, count=30 + 9 * seed)
        workspace = ready(context, inputs, outputs)
        assert context.enqueue(inputs, outputs, workspace) == 0
        check(op, outputs, expected)
    context.destroy()


@pytest.mark.parametrize("op", CASES)
def test_a_graph_captures_enqueue_and_follows_its_inputs(harness: Harness, op) -> None:
    attributes, case = CASES[op]
    built = harness.create(op, "", attributes)
    inputs, outputs, _ = case()
    workspace = ready(built, inputs, outputs)
    context = built.attach()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        assert context.enqueue(inputs, outputs, workspace) == 0
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        assert context.enqueue(inputs, outputs, workspace) == 0
    for seed in (3, 4):
        fresh, _, expected = case(seed=seed)
        for held, new in zip(inputs, fresh):
            held.copy_(new)
        for output in outputs:
            output.fill_(5)
        graph.replay()
        check(op, outputs, expected)
    context.destroy()
    built.destroy()


def test_both_agree_with_torchvision(harness: Harness) -> None:
    inputs, outputs, _ = roi_case()
    inputs[2].clamp_(min=0)
    plugin = harness.create("MaskRcnnROIAlign", "", ROI_ALIGN)
    assert plugin.enqueue(inputs, outputs, ready(plugin, inputs, outputs)) == 0
    places = torch.cat([inputs[2][:, None].float(), inputs[1]], 1)
    expected = torchvision.ops.roi_align(inputs[0], places, (7, 6), 1 / 16, 2, False)
    torch.testing.assert_close(outputs[0], expected, rtol=1e-4, atol=1e-4)
    plugin.destroy()

    inputs, outputs, _ = nms_case(batch=1, classes=1)
    plugin = harness.create("PaddedNMS", "", dict(NMS, box_offset=0))
    assert plugin.enqueue(inputs, outputs, ready(plugin, inputs, outputs)) == 0
    boxes, scores = inputs[0][0, 0], inputs[1][0, 0]
    passing = (scores > NMS["score_threshold"]).nonzero()[:, 0]
    kept = passing[torchvision.ops.nms(boxes[passing], scores[passing], NMS["iou_threshold"])]
    count = min(len(kept), NMS["keep_top_k"])
    assert outputs[1].tolist() == [count]
    assert outputs[0][0, :count].tolist() == kept[:count].tolist()
    plugin.destroy()


@pytest.mark.parametrize("op", CASES)
def test_invalid_arguments_are_refused(harness: Harness, op) -> None:
    attributes, case = CASES[op]
    first = next(iter(attributes))
    flag = "box_offset" if op == "PaddedNMS" else "aligned"
    less = {key: value for key, value in attributes.items() if key != first}
    other = 1 if isinstance(attributes[first], float) else 1.0
    assert harness.create(op, "", less) is None
    assert harness.create(op, "", dict(attributes, **{first: other})) is None
    assert harness.create(op, "", dict(attributes, **{flag: 2})) is None
    assert harness.create(op, "nowhere", attributes) is None
    built = harness.create(op, "", attributes)
    inputs, outputs, _ = case()
    mixed = [inputs[0].half(), *inputs[1:]]  # float16 beside float32 scores, or a float32 result
    assert built.configure(mixed, outputs) == -2  # a combination of types that is not taken
    stored = built.store()
    assert stored > 0
    each = stored // ATTRIBUTES[op]
    required = len(attributes)
    assert harness.restore(op, "", missing=stored - each * (required - 1)) is None
    built.destroy()


def test_engine_without_mode_uses_the_average(harness: Harness) -> None:
    built = harness.create("MaskRcnnROIAlign", "", dict(ROI_ALIGN, mode=1))
    stored = built.store()
    built.destroy()
    inputs, outputs, average = roi_case()
    loaded = harness.restore("MaskRcnnROIAlign", "")
    assert loaded.enqueue(inputs, outputs, ready(loaded, inputs, outputs)) == 0
    arrays = [tensor.cpu().numpy() for tensor in inputs]
    check("MaskRcnnROIAlign", outputs, reference.roi_align_maximum(*arrays, 7, 6, 1 / 16, 2, 0))
    loaded.destroy()
    older = harness.restore(
        "MaskRcnnROIAlign", "", missing=stored // ATTRIBUTES["MaskRcnnROIAlign"]
    )
    assert older.enqueue(inputs, outputs, ready(older, inputs, outputs)) == 0
    check("MaskRcnnROIAlign", outputs, average)
    older.destroy()


def last_formats(harness: Harness) -> list:
    """The element types with the format that TensorRT has for their channels last."""
    formats = [(torch.float16, HWC8)]
    if harness.has_hwc:
        formats.append((torch.float32, HWC))
    return formats if harness.is_v2 else [*formats, (torch.bfloat16, HWC8)]


def test_channels_last_on_either_side(harness: Harness) -> None:
    plugin = harness.create("MaskRcnnROIAlign", "trtyard", ROI_ALIGN)
    for dtype, layout in last_formats(harness):
        inputs, outputs, expected = roi_case(dtype)
        last_inputs = [Formatted.of(inputs[0], layout), *inputs[1:]]
        for given in (inputs, last_inputs):
            last = Formatted.of(torch.full_like(outputs[0], 77), layout)
            assert plugin.enqueue(given, [last], ready(plugin, given, [last])) == 0
            check("MaskRcnnROIAlign", [last.linear()], expected)
            assert int(last.memory[..., 12:].count_nonzero()) == 0
        outputs[0].fill_(77)
        assert plugin.enqueue(last_inputs, outputs, ready(plugin, last_inputs, outputs)) == 0
        check("MaskRcnnROIAlign", outputs, expected)
        # The other width of channels is for other types, and rois are linear.
        other = Formatted.of(inputs[0], HWC if layout == HWC8 else HWC8)
        assert plugin.configure([other, *inputs[1:]], outputs) == -2
    plugin.destroy()


ONNX_ROI_ALIGN = {
    "output_height": 7, "output_width": 6, "spatial_scale": 1 / 16, "sampling_ratio": 2,
    "mode": "avg", "coordinate_transformation_mode": "half_pixel",
}  # fmt: skip


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
def test_roi_align_of_onnx_runs_as_a_plugin(harness: Harness, transformation, mode) -> None:
    if not harness.is_v2:
        pytest.skip("ONNX's RoiAlign is a plugin of V2 libraries only")
    attributes = dict(ONNX_ROI_ALIGN, mode=mode, coordinate_transformation_mode=transformation)
    built = harness.create("RoiAlign", "", attributes)
    compute = reference.roi_align if mode == "avg" else reference.roi_align_maximum
    for dtype in (torch.float32, torch.float16):
        inputs, outputs, _ = roi_case(dtype)
        arrays = [tensor.float().cpu().numpy() for tensor in inputs[:2]]
        expected = compute(
            *arrays, inputs[2].cpu().numpy(), 7, 6, 1 / 16, 2, int(transformation == "half_pixel")
        )
        assert built.enqueue(inputs, outputs, ready(built, inputs, outputs)) == 0
        check("RoiAlign", outputs, expected)
    built.store()
    built.destroy()
    loaded = harness.restore("RoiAlign", "")
    outputs[0].fill_(77)
    assert loaded.enqueue(inputs, outputs, ready(loaded, inputs, outputs)) == 0
    check("RoiAlign", outputs, expected)
    loaded.destroy()


@pytest.mark.parametrize("name", ["mode", "coordinate_transformation_mode"])
def test_roi_align_of_onnx_refuses_unknown_texts(harness: Harness, name) -> None:
    if not harness.is_v2:
        pytest.skip("ONNX's RoiAlign is a plugin of V2 libraries only")
    assert harness.create("RoiAlign", "", dict(ONNX_ROI_ALIGN, **{name: "other"})) is None
