"""The torch operators on CUDA tensors: the kernels once a library is named, else the references."""

import pytest
from gpu_kernels import Kernels

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from trtyard.pipeline import ops  # noqa: E402 - needs torch
from trtyard.pipeline.ops.kernels import KernelLibrary  # noqa: E402
from trtyard.pipeline.ops.padded_nms_op.reference import padded_nms_reference  # noqa: E402
from trtyard.pipeline.ops.roi_align_op.reference import roi_align_reference  # noqa: E402


@pytest.fixture
def launched(kernels: Kernels, monkeypatch: pytest.MonkeyPatch):
    """The ops run the kernels; gives the names of the functions launched so far."""
    names = []
    launch = KernelLibrary.launch

    def noted(library, name, *arguments):
        names.append(name)
        launch(library, name, *arguments)

    monkeypatch.setattr(KernelLibrary, "launch", noted)
    ops.use_kernels(kernels.path)
    yield names
    ops.use_kernels(None)


def nms_arguments(batch=2, classes=3, count=300, dtype=torch.float32):
    generator = torch.Generator().manual_seed(count)
    corner = torch.rand(batch, 1, count, 2, generator=generator) * 200
    size = torch.rand(batch, 1, count, 2, generator=generator) * 80
    boxes = torch.cat([corner, corner + size], -1)
    boxes = (boxes * 2).round() / 2  # nothing to round in float32: the reference is exact, too
    scores = torch.rand(batch, classes, count, generator=generator)
    return boxes.to(dtype).cuda(), scores.to(dtype).cuda(), 0.5, 0.1, 50, 1


def roi_arguments(dtype=torch.float32):
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(2, 16, 20, 20, generator=generator).to(dtype)
    corner = torch.rand(12, 2, generator=generator) * 150
    rois = torch.cat([corner, corner + torch.rand(12, 2, generator=generator) * 150], 1)
    images = torch.randint(-1, 2, (12,), generator=generator, dtype=torch.int32)
    return features.cuda(), rois.cuda(), images.cuda(), 7, 7, 1 / 16, 2, 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_padded_nms_runs_the_kernel_and_equals_the_reference(launched, dtype) -> None:
    arguments = nms_arguments(dtype=dtype)
    got = ops.padded_nms(*arguments)
    assert launched == ["trtyard_padded_nms"]
    expected = padded_nms_reference(*arguments)
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_roi_align_runs_the_kernel_and_is_near_the_reference(launched, dtype) -> None:
    arguments = roi_arguments(dtype)
    got = ops.roi_align(*arguments)
    assert launched == ["trtyard_roi_align"]
    tolerance = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(got, roi_align_reference(*arguments), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_multiscale_roi_align_runs_the_kernel(launched, dtype, is_last) -> None:
    features, rois, images, *_ = roi_arguments(dtype)
    order = torch.channels_last if is_last else torch.contiguous_format
    maps = [features, features[:, :, ::2, ::2], features[:, :, :5, :5]]
    maps = [each.contiguous(memory_format=order) for each in maps]
    rest = (rois, images, (7, 5), (1 / 8, 1 / 16, 1 / 32), 2, False, 100)
    got = ops.multiscale_roi_align(maps, *rest)
    assert launched == ["trtyard_multiscale_roi_align"]
    assert got.is_contiguous(memory_format=order)
    ops.use_kernels(None)
    expected = ops.multiscale_roi_align(maps, *rest)
    assert expected.stride() == got.stride()
    tolerance = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_roi_align_keeps_channels_last_without_a_copy(launched, monkeypatch, dtype, mode) -> None:
    given = []
    launch = KernelLibrary.launch
    monkeypatch.setattr(
        KernelLibrary, "launch", lambda *all_of: (given.append(all_of[2]), launch(*all_of))
    )
    features, *rest = roi_arguments(dtype)
    last = features.contiguous(memory_format=torch.channels_last)
    got = ops.roi_align(last, *rest, mode)
    assert given == [last.data_ptr()]
    assert got.is_contiguous(memory_format=torch.channels_last)
    expected = roi_align_reference(last, *rest, mode)
    assert expected.stride() == got.stride()
    tolerance = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(
        got.contiguous(), ops.roi_align(features, *rest, mode), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("aligned", [0, 1])
def test_unusual_rois_are_the_same_with_the_reference_on_the_gpu(launched, aligned, mode) -> None:
    features = roi_arguments()[0]
    rois = torch.tensor(
        [[-2e38, 0, 2e38, 9], [-2e4, -1e4, 3e4, 2e4], [90, 20, 30, 80], [9, 9, 200, 210]],
        device="cuda",
    )
    images = torch.tensor([0, 1, 1, 0], dtype=torch.int32, device="cuda")
    for sampling in (0, 2):
        arguments = (features, rois, images, 7, 7, 1 / 16, sampling, aligned, mode)
        expected = roi_align_reference(*arguments)
        got = ops.roi_align(*arguments)
        usual = [0, 2, 3]
        torch.testing.assert_close(got[usual], expected[usual], rtol=1e-4, atol=1e-4)
        # Samples some 2,000 cells from a corner: float32's step there is 1.2e-4 of a cell, and both
        # sides round on the way. A step is worth as much of the difference of two cells.
        steps = 2 * 2.0**-13 * float(features.max() - features.min())
        torch.testing.assert_close(got[1], expected[1], rtol=0, atol=steps)
        assert torch.equal(roi_align_reference(*[
            each.cpu() if isinstance(each, torch.Tensor) else each for each in arguments
        ])[0], torch.zeros(16, 7, 7))  # fmt: skip
    empty = ops.roi_align(features[:0], rois, images, 7, 7, 1 / 16, 2, aligned, mode)
    assert int(empty.count_nonzero()) == 0
    assert launched == ["trtyard_roi_align"] * 3


def test_without_a_library_the_reference_computes_on_the_gpu(launched) -> None:
    ops.use_kernels(None)
    boxes, count = ops.padded_nms(*nms_arguments())
    assert boxes.is_cuda
    assert count.is_cuda
    assert ops.roi_align(*roi_arguments()).is_cuda
    assert launched == []


def test_unsupported_types_use_the_reference(launched) -> None:
    features, *rest = roi_arguments()
    ops.roi_align(features.double(), *rest)
    assert launched == []


def test_mixed_types_and_strides_work(launched) -> None:
    boxes, scores, *rest = nms_arguments()
    wide = torch.zeros(*scores.shape, 2, device="cuda")
    wide[..., 0] = scores
    got = ops.padded_nms(boxes.half().float(), wide[..., 0], *rest)
    assert torch.equal(got[0], ops.padded_nms(boxes.half(), scores, *rest)[0])
    assert len(launched) == 2


def test_operators_pass_opcheck(launched) -> None:
    torch.library.opcheck(ops.padded_nms, nms_arguments())
    features, *rest = roi_arguments()
    torch.library.opcheck(torch.ops.trtyard.roi_align.default, (features, *rest))
    last = features.contiguous(memory_format=torch.channels_last)
    torch.library.opcheck(torch.ops.trtyard.roi_align.default, (last, *rest, 1))
    assert "trtyard_padded_nms" in launched
    assert "trtyard_roi_align" in launched


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler uses its own old parts
def test_compiled_function_has_both_ops_without_graph_break(launched) -> None:
    def both(boxes, scores, features, rois, images):
        indices, count = ops.padded_nms(boxes, scores, 0.5, 0.1, 50, 1)
        pooled = ops.roi_align(features, rois, images, 7, 7, 1 / 16, 2, 0)
        return indices + 1, count, pooled * 2

    arguments = (*nms_arguments()[:2], *roi_arguments()[:3])
    compiled = torch.compile(both, fullgraph=True)
    for got, expected in zip(compiled(*arguments), both(*arguments)):
        assert torch.equal(got, expected)
    assert len(launched) == 4


def test_calls_follow_the_current_stream(launched) -> None:
    features, *rest = roi_arguments()
    expected = ops.roi_align(features, *rest)
    late, features = features, torch.zeros_like(features)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(20_000_000)  # the call must wait for this and the copy behind it
        features.copy_(late)
        got = ops.roi_align(features, *rest)
    torch.cuda.synchronize()
    assert torch.equal(got, expected)
