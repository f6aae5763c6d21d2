import itertools

import gpu_reference as reference
import numpy as np
import pytest
from gpu_kernels import AVERAGE, MAXIMUM, NCHW, NHWC, NHWC8, Kernels

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

from gpu_buffers import GUARD, RoiCall, roi_align  # noqa: E402 - needs torch

INF, NAN = float("inf"), float("nan")
SCALE = 1 / 16
# |out - ref| / |ref| against float64: float32 sums, then one rounding to 11 or 8 bits.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}


def random_case(batch, channels, height, width, count, seed=0, dtype=torch.float32):
    """Features, rois that also reach over the edges, and an image for each, -1 among them."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, channels, height, width, generator=generator).to(dtype)
    extent = torch.tensor([width, height, width, height]) / SCALE
    corners = (torch.rand(count, 4, generator=generator) * 1.3 - 0.15) * extent
    first, second = corners.split(2, dim=1)
    rois = torch.cat([torch.minimum(first, second), torch.maximum(first, second)], dim=1)
    images = torch.randint(-1, batch, (count,), generator=generator, dtype=torch.int32)
    return features, rois, images


def error(got, expected):
    expected = torch.from_numpy(expected)
    scale = expected.norm().item()
    assert bool(torch.isfinite(got).all())
    return (got.double() - expected).norm().item() / (scale if scale > 0 else 1.0)


def check(
    kernels, features, rois, images, output, sampling, aligned, scale=SCALE, mode=AVERAGE, **formats
):
    got = roi_align(
        kernels, features.cuda(), rois.cuda(), images.cuda(), output, scale, sampling, aligned,
        mode, **formats,
    )  # fmt: skip
    compute = reference.roi_align if mode == AVERAGE else reference.roi_align_maximum
    expected = compute(
        features.float().numpy(), rois.numpy(), images.numpy(), *output, scale, sampling, aligned
    )
    assert error(got, expected) <= TOLERANCE[features.dtype]
    padded = images < 0
    assert int(got[padded].count_nonzero()) == 0
    return got


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("sampling", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("batch", "channels", "height", "width", "count", "output"),
    [
        (1, 1, 1, 1, 3, (1, 1)),
        (1, 1, 7, 1, 5, (2, 3)),
        (2, 5, 13, 17, 20, (7, 7)),
        (3, 33, 50, 38, 30, (14, 14)),
        (1, 64, 25, 25, 40, (7, 7)),
        (2, 130, 20, 21, 9, (5, 3)),
        (1, 3, 200, 150, 12, (1, 30)),
        (1, 20, 200, 304, 40, (7, 7)),
        (2, 9, 131, 257, 25, (14, 14)),
        (1, 6, 20000, 2, 5, (3, 3)),
    ],
)
def test_random_rois_agree_with_float64(
    kernels: Kernels, batch, channels, height, width, count, output, dtype, sampling, aligned
) -> None:
    case = random_case(batch, channels, height, width, count, seed=channels + count, dtype=dtype)
    check(kernels, *case, output, sampling, aligned)


# What a case reaches: channels in whole and in broken vectors, one warp of channels and more, each
# form of a roi's tables, no tables (rois, bins), maps in shared memory and not.
LAYOUT_CASES = [
    (2, 64, 25, 25, 40, (7, 7)),
    (2, 5, 13, 17, 20, (7, 7)),
    (3, 33, 50, 38, 30, (14, 14)),
    (1, 300, 20, 21, 9, (5, 3)),
    (1, 36, 200, 304, 40, (7, 7)),
    (2, 41, 160, 90, 25, (14, 14)),
    (1, 12, 40, 40, 3, (7, 7)),
    (1, 12, 40, 40, 9, (2, 20)),
    (1, 1, 1, 1, 6, (2, 3)),
    (2, 1030, 9, 9, 6, (7, 7)),
]


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("batch", "channels", "height", "width", "count", "output"), LAYOUT_CASES)
def test_every_format_gives_the_same_function(
    kernels: Kernels, batch, channels, height, width, count, output, dtype, sampling, aligned
) -> None:
    case = random_case(batch, channels, height, width, count, seed=channels + count, dtype=dtype)
    features, rois, images = case
    expected = reference.roi_align(
        features.float().numpy(), rois.numpy(), images.numpy(), *output, SCALE, sampling, aligned
    )
    on_gpu = [tensor.cuda() for tensor in case]
    for given, taken in itertools.product((NCHW, NHWC, NHWC8), repeat=2):
        got = roi_align(kernels, *on_gpu, output, SCALE, sampling, aligned, AVERAGE, given, taken)
        assert error(got, expected) <= TOLERANCE[dtype], f"from format {given} to {taken}"
        assert int(got[images < 0].count_nonzero()) == 0, f"from format {given} to {taken}"


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("sampling", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("given", "taken"), [(NCHW, NCHW), (NHWC, NCHW), (NHWC8, NHWC8)])
@pytest.mark.parametrize(
    ("batch", "channels", "height", "width", "count", "output"), LAYOUT_CASES[1:4]
)
def test_the_maximum_agrees_with_float64(
    kernels: Kernels, batch, channels, height, width, count, output, given, taken, dtype, sampling,
    aligned,
) -> None:  # fmt: skip
    case = random_case(batch, channels, height, width, count, seed=channels, dtype=dtype)
    check(
        kernels, *case, output, sampling, aligned, mode=MAXIMUM, features_format=given,
        pooled_format=taken,
    )  # fmt: skip


def test_nan_term_gives_nan_maximum(kernels: Kernels) -> None:
    features = torch.randn(1, 3, 10, 10, device="cuda")
    features[0, 1, 4, 5] = NAN
    rois = torch.tensor([[64.0, 48.0, 112.0, 96.0], [0.0, 0.0, 40.0, 40.0]], device="cuda")
    got = roi_align(kernels, features, rois, None, (1, 1), SCALE, 3, 0, MAXIMUM).flatten(1)
    assert got.isnan().tolist() == [[False, True, False], [False, False, False]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("given", "taken"), [(NHWC, NHWC), (NHWC8, NCHW), (NCHW, NHWC8)])
def test_unaligned_tensors_work_in_every_format(kernels: Kernels, given, taken, dtype) -> None:
    features, rois, images = (t.cuda() for t in random_case(1, 24, 9, 11, 12, dtype=dtype))
    arguments = (features, rois, images, (7, 7), SCALE, 0, 0, AVERAGE, given, taken)
    even = roi_align(kernels, *arguments)
    call = RoiCall(kernels, *arguments)
    odd = torch.zeros(call.features.numel() + 1, dtype=dtype, device="cuda")[1:]
    call.features = odd.view(call.features.shape).copy_(call.features)
    call.pooled.pointer += dtype.itemsize  # writes one element into the band behind
    call.run()
    torch.cuda.synchronize()
    whole = call.pooled._bytes[GUARD + dtype.itemsize :][: call.pooled.size].view(dtype)
    call.pooled.tensor = whole.clone().view(call.pooled.tensor.shape)
    call.pooled.check = lambda: None
    torch.testing.assert_close(call.result(), even, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("given", [NCHW, NHWC])
def test_large_map_ignores_cells_without_weight(kernels: Kernels, given) -> None:
    features = torch.full((1, 16, 150, 200), NAN)
    features[:, :, 10:40, 20:60] = 1.0
    rois = torch.tensor([[22.0, 12.0, 55.0, 36.0]]).repeat(8, 1)
    images = torch.zeros(8, dtype=torch.int32)
    got = check(kernels, features.nan_to_num(5.0), rois, images, (7, 7), 2, 0, scale=1.0,
                features_format=given)  # fmt: skip
    assert bool(((got - 1.0).abs() < 2e-6).all())
    again = roi_align(kernels, features.cuda(), rois.cuda(), images.cuda(), (7, 7), 1.0, 2, 0,
                      features_format=given)  # fmt: skip
    assert torch.equal(again, got)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("output", [(7, 7), (14, 14)])
def test_agrees_with_torchvision_on_cuda(kernels: Kernels, output, sampling, aligned) -> None:
    features, rois, images = random_case(2, 256, 50, 50, 200, seed=3)
    images = images.clamp(min=0)
    got = roi_align(
        kernels, features.cuda(), rois.cuda(), images.cuda(), output, SCALE, sampling, int(aligned)
    )
    expected = torchvision.ops.roi_align(
        features.cuda(), torch.cat([images[:, None].float(), rois], 1).cuda(), output, SCALE,
        sampling if sampling > 0 else -1, aligned,
    )  # fmt: skip
    assert error(got, expected.double().cpu().numpy()) <= 1e-5
    torch.testing.assert_close(got, expected.cpu(), rtol=1e-4, atol=1e-4)


def test_padded_and_out_of_range_images_give_zeros(kernels: Kernels) -> None:
    features, rois, _ = random_case(2, 8, 10, 10, 6)
    images = torch.tensor([-1, 0, 2, 1, -7, 2**31 - 1], dtype=torch.int32)
    got = roi_align(kernels, features.cuda(), rois.cuda(), images.cuda(), (7, 7), SCALE, 0, 0)
    assert [bool(roi.any()) for roi in got] == [False, True, False, True, False, False]


@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("aligned", [0, 1])
def test_degenerate_rois_agree_with_float64(kernels: Kernels, aligned, sampling) -> None:
    rows = [[80, 80, 80, 80], [80, 80, 80, 200], [200, 200, 80, 80], [0, 0, 0.001, 0.001],
            [-500, -500, -400, -400], [5000, 0, 6000, 100], [-16, -16, 0, 0], [159, 159, 160, 160],
            [-100, -100, 400, 400], [0, 0, 160, 160]]  # fmt: skip
    rois = torch.tensor(rows, dtype=torch.float32)
    features, _, _ = random_case(1, 4, 10, 10, 1)
    images = torch.zeros(len(rows), dtype=torch.int32)
    check(kernels, features, rois, images, (7, 7), sampling, aligned)


@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("aligned", [0, 1])
def test_rois_that_are_not_finite_give_zeros(kernels: Kernels, aligned, sampling) -> None:
    rows = [[NAN, 0, 80, 80], [0, 0, 80, NAN], [NAN] * 4, [-INF, 0, 80, 80], [INF] * 4,
            [0, -INF, 80, INF], [0, 0, 80, 80]]  # fmt: skip
    rois = torch.tensor(rows)
    features, _, _ = random_case(1, 4, 10, 10, 1)
    got = roi_align(kernels, features.cuda(), rois.cuda(), None, (3, 3), SCALE, sampling, aligned)
    assert [bool(roi.any()) for roi in got] == [False] * 6 + [True]
    assert bool(torch.isfinite(got).all())


FAR = float(reference.FARTHEST)
# Each with whether it is padding on a map of any size, at a scale of 1.
UNUSUAL_ROIS = [
    ([-2e38, -2e38, 2e38, 2e38], True),
    ([0, 0, 3.4e38, 9], True),
    ([1e30, 0, 2e30, 9], True),
    ([0, 0, FAR, 9], True),
    ([0, -FAR, 9, 9], True),
    ([0, 0, 9, INF], True),
    ([NAN, 0, 9, 9], True),
    ([1 - FAR, 1 - FAR, FAR - 1, FAR - 1], False),
    ([0, 0, 20_000, 20_000], False),
    ([-9_000, -700, 11_000, 800], False),
    ([2, 1, 20_000, 6], False),
    ([1, 2, 6, 20_000], False),
    ([9, 1, 2, 7], False),  # inside out across, down and both
    ([1, 7, 9, 2], False),
    ([9, 7, 1, 2], False),
    ([4, 4, 4, 9], False),
    ([-1, -1, 0, 0], False),
    ([1, 1, 8, 8], False),
]
# Each way to compute: maps in shared memory (few bins, many, any), streamed, without tables for a
# side of more than 16 bins or few rois, and larger maps with rows or columns of their own tiles.
UNUSUAL_CASES = [
    (2, 8, 10, 12, (7, 7)),
    (1, 33, 25, 25, (14, 14)),
    (1, 6, 13, 17, (3, 5)),
    (1, 12, 100, 102, (7, 7)),
    (1, 20, 200, 304, (7, 7)),
    (1, 4, 300, 260, (14, 14)),
    (1, 5, 40, 3, (16, 16)),
    (1, 5, 9, 9, (2, 20)),
]


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("batch", "channels", "height", "width", "output", "mode"),
    [(*case, AVERAGE) for case in UNUSUAL_CASES]
    + [(*case, MAXIMUM) for case in UNUSUAL_CASES[:3]],  # one code path for all sizes
)
def test_unusual_rois_match_float64(
    kernels: Kernels, batch, channels, height, width, output, dtype, mode, sampling, aligned
) -> None:
    features, _, _ = random_case(batch, channels, height, width, 1, seed=height, dtype=dtype)
    rois = torch.tensor([roi for roi, _ in UNUSUAL_ROIS])
    images = torch.arange(len(rois), dtype=torch.int32) % batch
    compute = reference.roi_align if mode == AVERAGE else reference.roi_align_maximum
    expected = compute(
        features.float().numpy(), rois.numpy(), images.numpy(), *output, 1.0, sampling, aligned
    )
    # Below float16's normal numbers a result has steps of 2^-24.
    step = 2.0**-24 if dtype == torch.float16 else 0.0
    for given, taken in ((NCHW, NCHW), (NHWC, NHWC), (NHWC8, NCHW)):
        got = roi_align(
            kernels, features.cuda(), rois.cuda(), images.cuda(), output, 1.0, sampling, aligned,
            mode, given, taken,
        ).double()  # fmt: skip
        assert bool(torch.isfinite(got).all())
        for (roi, is_padding), own, wanted in zip(UNUSUAL_ROIS, got, expected):
            if is_padding or not wanted.any():
                assert int(own.count_nonzero()) == 0, f"{roi} from format {given} to {taken}"
                continue
            off = np.linalg.norm(own.numpy() - wanted)
            most = 2 * TOLERANCE[dtype] * np.linalg.norm(wanted) + step * wanted.size**0.5
            assert off <= most, f"{roi} from format {given} to {taken}"


@pytest.mark.parametrize("count", [2, 18])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_padding_is_zero_for_nan_maps_and_any_scale(kernels: Kernels, dtype, count) -> None:
    features = torch.full((1, 8, 10, 10), NAN, dtype=dtype, device="cuda")
    rois = torch.tensor([[1.0, 1, 5, 5], [-2e38, 0, 2e38, 5]], device="cuda").repeat(count // 2, 1)
    images = torch.tensor([-1, 0], dtype=torch.int32, device="cuda").repeat(count // 2)
    for scale in (1.0, -1.0):
        for sampling in (0, 2):
            got = roi_align(kernels, features, rois, images, (7, 7), scale, sampling, 0)
            assert int(got.count_nonzero()) == 0
    for scale in (1e-30, 1e-45, 0.0):
        got = roi_align(kernels, features, rois[::2].contiguous(), images[::2].contiguous(), (7, 7),
                        scale, 2, 0)  # fmt: skip
        assert int(got.count_nonzero()) == 0


def test_fast_path_does_not_change_other_rois(kernels: Kernels) -> None:
    # The rois of a call do not change each other: with unusual ones among them or without.
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        features, rois, images = (t.cuda() for t in random_case(2, 64, 50, 50, 120, 4, dtype))
        alone = roi_align(kernels, features, rois, images, (7, 7), SCALE, 0, 0)
        unusual = torch.tensor([roi for roi, _ in UNUSUAL_ROIS], device="cuda")
        mixed = torch.cat([unusual, rois, unusual])
        placed = torch.cat([images[: len(unusual)], images, images[: len(unusual)]])
        together = roi_align(kernels, features, mixed, placed, (7, 7), SCALE, 0, 0)
        assert torch.equal(together[len(unusual) : -len(unusual)], alone)


def test_oversized_rois_are_fast_and_finite(kernels: Kernels) -> None:
    # 1e9 pixels at adaptive sampling are 6e7 samples a bin and axis, of which ten are on the map.
    rois = torch.tensor([[-1e9, -1e9, 1e9, 1e9], [0, 0, 1e9, 1e9], [-1e30, -1e30, 1e30, 1e30],
                         [0, 0, 3e38, 3e38], [-3e38, -3e38, 3e38, 3e38]])  # fmt: skip
    features = torch.ones(1, 2, 10, 10, device="cuda")
    for aligned in (0, 1):
        got = roi_align(kernels, features, rois.cuda(), None, (1, 1), SCALE, 0, aligned)
        assert bool(torch.isfinite(got).all())
        assert bool((got.abs() <= 1e-6).all()), "ten cells of a million have no weight in a mean"


def test_large_adaptive_roi_keeps_the_whole_sum(kernels: Kernels) -> None:
    features = torch.rand(1, 2, 8, 8)
    rois = torch.tensor([[-8000.0, -8000.0, 8128.0, 8128.0]])
    images = torch.zeros(1, dtype=torch.int32)
    got = check(kernels, features, rois, images, (3, 3), 0, 0)
    assert bool(got[0, :, 1, 1].ne(0).all())
    assert bool(got[0, :, 0, 0].eq(0).all())


@pytest.mark.parametrize(
    ("batch", "channels", "height", "width", "count", "output"),
    [
        (2, 3, 8, 8, 0, (7, 7)),
        (2, 0, 8, 8, 4, (7, 7)),
        (2, 3, 8, 8, 4, (0, 7)),
        (0, 3, 8, 8, 4, (7, 7)),
        (2, 3, 0, 8, 4, (7, 7)),
        (2, 3, 8, 0, 4, (2, 2)),
    ],
)
def test_empty_sizes_give_zeros_or_nothing(
    kernels: Kernels, batch, channels, height, width, count, output
) -> None:
    features = torch.ones(batch, channels, height, width, device="cuda")
    rois = torch.tensor([[0.0, 0.0, 100.0, 100.0]], device="cuda").repeat(count, 1)
    got = roi_align(kernels, features, rois, None, output, SCALE, 0, 0)
    assert got.shape == (count, channels, *output)
    assert int(got.count_nonzero()) == 0


def test_a_constant_map_pools_to_the_constant(kernels: Kernels) -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        features = torch.full((1, 7, 40, 40), 1.5, dtype=dtype, device="cuda")
        rois = torch.tensor([[10.0, 20.0, 600.0, 500.0], [3.0, 3.0, 5.0, 4.0]], device="cuda")
        for sampling in (0, 1, 2, 5):
            got = roi_align(kernels, features, rois, None, (6, 9), SCALE, sampling, 0)
            assert bool(((got.float() - 1.5).abs() < 2e-6).all())


def test_half_features_keep_float32_coordinates(kernels: Kernels) -> None:
    # A ramp along x tells the coordinate: near 800 px float16 has steps of half a pixel.
    ramp = torch.arange(100.0).expand(1, 1, 100, 100).contiguous()
    rois = torch.tensor([[801.3, 801.3, 801.3 + 64, 801.3 + 64]])
    images = torch.zeros(1, dtype=torch.int32)
    got = check(kernels, ramp.half(), rois, images, (4, 4), 2, 1, scale=0.1).float()
    first_bin = 80.13 - 0.5 + 0.8
    assert abs(got[0, 0, 0, 0].item() - first_bin) <= 2**-5  # half a float16 step at 80


def test_extreme_halves_do_not_overflow_in_the_sum(kernels: Kernels) -> None:
    features = torch.full((1, 3, 20, 20), 60000.0, dtype=torch.float16)
    images = torch.zeros(1, dtype=torch.int32)
    got = check(kernels, features, torch.tensor([[0.0, 0.0, 300.0, 300.0]]), images, (2, 2), 0, 0)
    assert bool((got == 60000.0).all())


def test_unaligned_inputs_are_read(kernels: Kernels) -> None:
    features, rois, images = random_case(1, 6, 9, 11, 5)
    for dtype in (torch.float32, torch.float16):
        odd_features = torch.zeros(features.numel() + 1, dtype=dtype, device="cuda")[1:]
        odd_features = odd_features.view(features.shape).copy_(features)
        odd_rois = torch.zeros(21, device="cuda")[1:].view(5, 4).copy_(rois)
        odd_images = torch.zeros(6, dtype=torch.int32, device="cuda")[1:].copy_(images)
        got = roi_align(kernels, odd_features, odd_rois, odd_images, (7, 7), SCALE, 0, 0)
        even = roi_align(
            kernels, odd_features.clone(), rois.cuda(), images.cuda(), (7, 7), SCALE, 0, 0
        )
        assert torch.equal(got, even)


def test_large_inputs_are_computed_completely(kernels: Kernels) -> None:
    # 2.8e8 outputs: more than one thread each in the largest grid; seen through a constant map.
    features = torch.full((1, 512, 16, 16), 2.0, dtype=torch.float16, device="cuda")
    rois = torch.tensor([[8.0, 8.0, 200.0, 200.0]], device="cuda").repeat(2800, 1)
    call = RoiCall(kernels, features, rois, None, (14, 14), SCALE, 0, 0)
    call.run()
    torch.cuda.synchronize()
    assert bool((call.pooled.tensor == 2.0).all())
    call.pooled.check()


def test_graph_replays_follow_their_inputs(kernels: Kernels) -> None:
    features, rois, images = (t.cuda() for t in random_case(2, 16, 20, 20, 30, seed=1))
    call = RoiCall(kernels, features, rois, images, (7, 7), SCALE, 0, 0)
    call.run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call.run()
    for seed in (2, 3):
        for held, fresh in zip((features, rois, images), random_case(2, 16, 20, 20, 30, seed=seed)):
            held.copy_(fresh)
        call.pooled.tensor.fill_(77.0)
        graph.replay()
        expected = reference.roi_align(
            features.cpu().numpy(), rois.cpu().numpy(), images.cpu().numpy(), 7, 7, SCALE, 0, 0
        )
        assert error(call.result(), expected) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("given", [NCHW, NHWC])
def test_graph_waits_for_copies_streams_and_earlier_calls(kernels: Kernels, given, dtype) -> None:
    # A call's second kernel starts while its first still runs, and must read nothing too early.
    first, second = (random_case(1, 64, 40, 40, 60, seed, dtype) for seed in (1, 2))
    features, rois, images = (t.cuda() for t in first)
    call = RoiCall(kernels, features, rois, images, (7, 7), SCALE, 0, 0, features_format=given)
    again = RoiCall(kernels, features, rois, images, (7, 7), SCALE, 0, 0, features_format=given)
    again.workspace, again.features, again.rois = call.workspace, call.features, call.rois
    staged = [call.features.clone(), call.rois.clone(), call.batch_indices.clone()]
    held = [call.features, call.rois, call.batch_indices]
    again.batch_indices = call.batch_indices
    call.run()
    again.run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            held[0].copy_(staged[0])  # a copy node, in a branch
        held[1].copy_(staged[1])
        held[2].copy_(staged[2])
        torch.cuda.current_stream().wait_stream(side)
        call.run()
        again.run()  # in the same workspace
        held[0].zero_()
        held[1].fill_(-1e6)
    for case in (first, second):
        fresh = RoiCall(kernels, *(t.cuda() for t in case), (7, 7), SCALE, 0, 0,
                        features_format=given)  # fmt: skip
        for target, source in zip(staged, (fresh.features, fresh.rois, fresh.batch_indices)):
            target.copy_(source)
        fresh.run()
        expected = fresh.result()
        for _ in range(3):
            graph.replay()
            assert torch.equal(call.result(), expected)
            assert torch.equal(again.result(), expected)


def test_runs_in_the_given_stream(kernels: Kernels) -> None:
    features, rois, images = (t.cuda() for t in random_case(1, 8, 20, 20, 10, seed=6))
    late = features.clone()
    features.zero_()
    call = RoiCall(kernels, features, rois, images, (7, 7), SCALE, 2, 1)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(20_000_000)  # the call must wait for this and the copy behind it
        features.copy_(late)
        call.run()
    expected = reference.roi_align(
        late.cpu().numpy(), rois.cpu().numpy(), images.cpu().numpy(), 7, 7, SCALE, 2, 1
    )
    assert error(call.result(), expected) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("size", [30, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("mode", "given", "taken"),
    [(AVERAGE, NCHW, NCHW), (AVERAGE, NCHW, NHWC), (AVERAGE, NHWC, NCHW), (AVERAGE, NHWC8, NHWC8),
     (MAXIMUM, NHWC, NHWC)],
)  # fmt: skip
def test_a_hundred_runs_give_the_same_bits(
    kernels: Kernels, mode, given, taken, dtype, size
) -> None:
    features, rois, images = (t.cuda() for t in random_case(2, 36, size, size, 50, 9, dtype))
    call = RoiCall(kernels, features, rois, images, (14, 14), SCALE, 0, 0, mode, given, taken)
    call.run()
    first = call.result()
    for _ in range(100):
        call.workspace.tensor.random_(0, 256)
        call.run()
        assert torch.equal(first, call.result())
