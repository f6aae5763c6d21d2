"""MultiscaleRoIAlign's kernels against float64, torchvision's module, and themselves."""

import math
from collections import OrderedDict

import gpu_reference as reference
import numpy as np
import pytest
from gpu_kernels import NCHW, NHWC, NHWC8, Kernels

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

from gpu_buffers import MultiscaleCall, multiscale_roi_align  # noqa: E402 - needs torch

INF, NAN = float("inf"), float("nan")
SCALES = [1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64]
# |out - ref| / |ref| against float64, as for MaskRcnnROIAlign.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
FORMATS = [(NCHW, NCHW), (NHWC, NHWC), (NHWC8, NHWC8), (NCHW, NHWC), (NHWC, NCHW), (NHWC8, NCHW)]


def pyramid(levels, batch, channels, picture, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(
            batch, channels, *(math.ceil(side * scale) for side in picture), generator=generator
        ).to(dtype)
        for scale in SCALES[:levels]
    ]


def random_rois(count, batch, picture, seed=0, smallest=8.0):
    """Rois of all sizes, also over the edges, and an image for each, -1 among them."""
    generator = torch.Generator().manual_seed(seed)
    largest = 1.2 * max(picture)
    side = smallest * (largest / smallest) ** torch.rand(count, 1, generator=generator)
    aspect = 2 ** (2 * torch.rand(count, 1, generator=generator) - 1)
    sides = torch.cat([side * aspect, side / aspect], 1)
    extent = torch.tensor([picture[1], picture[0]])
    middle = torch.rand(count, 2, generator=generator) * extent
    images = torch.randint(-1, batch, (count,), generator=generator, dtype=torch.int32)
    return torch.cat([middle - sides / 2, middle + sides / 2], 1), images


def error(got, expected):
    expected = torch.from_numpy(expected)
    scale = expected.norm().item()
    assert bool(torch.isfinite(got).all())
    return (got.double() - expected).norm().item() / (scale if scale > 0 else 1.0)


def on_gpu(maps, *others):
    return [[each.cuda() for each in maps], *(each.cuda() for each in others)]


# Levels, batch, channels, picture, rois, bins: all sizes that the algorithms distinguish.
CASES = [
    (2, 1, 1, (64, 64), 3, (1, 1)),
    (4, 2, 33, (200, 304), 40, (7, 7)),
    (4, 1, 256, (400, 608), 60, (7, 7)),
    (5, 3, 64, (320, 320), 50, (14, 14)),
    (3, 2, 5, (130, 70), 20, (5, 3)),
    (3, 1, 12, (320, 320), 9, (2, 20)),
    (5, 1, 16, (96, 64), 30, (7, 7)),
    (2, 2, 300, (120, 90), 25, (3, 8)),
    (4, 1, 8, (800, 1216), 200, (7, 7)),
    # Many rois on maps of any width.
    (4, 1, 64, (800, 1216), 650, (7, 7)),
    (4, 2, 128, (256, 320), 200, (7, 7)),
    (5, 3, 64, (320, 320), 400, (8, 8)),
    (2, 1, 192, (150, 130), 100, (3, 8)),
    (2, 2, 64, (280, 546), 1100, (2, 1)),
]


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("sampling", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("levels", "batch", "channels", "picture", "count", "output"), CASES)
def test_random_pyramids_agree_with_float64(
    kernels: Kernels, levels, batch, channels, picture, count, output, dtype, sampling, aligned
) -> None:
    maps = pyramid(levels, batch, channels, picture, dtype, seed=channels)
    rois, images = random_rois(count, batch, picture, seed=count)
    scales = SCALES[:levels]
    expected = reference.multiscale_roi_align(
        [each.float().numpy() for each in maps], rois.numpy(), images.numpy(), output, scales,
        sampling, aligned,
    )  # fmt: skip
    moved = on_gpu(maps, rois, images)
    for given, taken in FORMATS:
        got = multiscale_roi_align(
            kernels, *moved, output, scales, sampling, aligned, features_format=given,
            pooled_format=taken,
        )  # fmt: skip
        assert error(got, expected) <= TOLERANCE[dtype], f"from format {given} to {taken}"
        assert int(got[images < 0].count_nonzero()) == 0, f"from format {given} to {taken}"


def by_torchvision(maps, rois, images, output, sampling, picture, dtype):
    pool = torchvision.ops.MultiScaleRoIAlign(
        [str(level) for level in range(len(maps))], output, sampling
    )
    named = OrderedDict((str(level), each.to(dtype)) for level, each in enumerate(maps))
    boxes = [rois[images == image].to(dtype) for image in range(len(maps[0]))]
    ordered = torch.cat([(images == image).nonzero().flatten() for image in range(len(maps[0]))])
    pooled = torch.zeros(len(rois), maps[0].shape[1], *output, dtype=dtype, device="cuda")
    pooled[ordered] = pool(named, boxes, [picture] * len(maps[0]))
    return pooled


@pytest.mark.parametrize("given", [NCHW, NHWC])
@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("output", [(7, 7), (14, 14)])
def test_agrees_with_torchvision_on_the_gpu(kernels: Kernels, output, sampling, given) -> None:
    picture = (800, 1216)
    maps, rois, images = on_gpu(
        pyramid(4, 2, 32, picture), *random_rois(1300, 2, picture, seed=5, smallest=2.0)
    )
    got = multiscale_roi_align(
        kernels, maps, rois, images, output, SCALES[:4], sampling, 0, features_format=given
    )
    expected = by_torchvision(maps, rois, images, output, sampling, picture, torch.float32)
    torch.testing.assert_close(got, expected.cpu(), rtol=1e-4, atol=1e-4)
    in_double = by_torchvision(maps, rois, images, output, sampling, picture, torch.float64)
    assert error(got, in_double.cpu().numpy()) <= 1e-4  # coordinates are float32 here


def test_levels_at_borders_agree_with_the_reference(kernels: Kernels) -> None:
    bits = np.concatenate(
        [
            np.float32(2.0**power * 28 * 28).view(np.int32) + np.arange(-200, 50, dtype=np.int32)
            for power in range(0, 12, 2)
        ]
    )
    areas = torch.from_numpy(bits.astype(np.int32).view(np.float32).copy())
    zeros = torch.zeros_like(areas)
    rois = torch.stack([zeros, zeros, areas, zeros + 1], 1)
    levels = reference.level_indices(rois.numpy(), SCALES[:4])
    assert sorted(set(levels)) == [0, 1, 2, 3]
    maps = [torch.full((1, 4, 8, 8), float(level + 1)) for level in range(4)]
    images = torch.zeros(len(rois), dtype=torch.int32)
    got = multiscale_roi_align(kernels, *on_gpu(maps, rois, images), (1, 1024), SCALES[:4], 1, 0)
    # The first bin of a long roi has its sample on the map unless the bin is longer than the map.
    first = got[:, 0, 0, 0].numpy()
    on_map = first > 0
    assert on_map.mean() > 0.3
    assert (np.round(first[on_map]) == levels[on_map] + 1).all()


@pytest.mark.parametrize("channels", [24, 64])
@pytest.mark.parametrize("given", [NCHW, NHWC])
@pytest.mark.parametrize("sampling", [0, 2])
def test_degenerate_rois_agree_with_float64(kernels: Kernels, sampling, given, channels) -> None:
    rows = [
        [80, 80, 80, 80], [80, 80, 80, 200], [200, 200, 80, 80], [200, 80, 80, 200],
        [80, 200, 200, 80], [-500, -500, -400, -400], [5000, 0, 6000, 100], [-16, -16, 0, 0],
        [-20000, -20000, 20000, 20000], [2, 1, 20000, 6], [0, 0, 304, 200], [NAN, 0, 80, 80],
        [0, 0, INF, 80], [-INF] * 4, [0, 0, 3e38, 3e38], [-3e38, 0, 3e38, 0],
    ]  # fmt: skip
    rois = torch.tensor(rows * 6, dtype=torch.float32)
    images = torch.arange(len(rois), dtype=torch.int32) % 2
    maps = pyramid(4, 2, channels, (200, 304))
    expected = reference.multiscale_roi_align(
        [each.numpy() for each in maps], rois.numpy(), images.numpy(), (7, 7), SCALES[:4], sampling,
        0,
    )  # fmt: skip
    got = multiscale_roi_align(
        kernels, *on_gpu(maps, rois, images), (7, 7), SCALES[:4], sampling, 0,
        features_format=given,
    )  # fmt: skip
    assert error(got, expected) <= 1e-5
    alive = [bool(roi.any()) for roi in got]
    assert alive[3:5] == [False, False]
    assert alive[11 : len(rows)] == [False] * 5


@pytest.mark.parametrize("given", [NCHW, NHWC])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", [8, 64])
def test_padding_is_zero_for_nan_maps(kernels: Kernels, channels, dtype, given) -> None:
    maps = [torch.full_like(each, NAN) for each in pyramid(3, 1, channels, (96, 96), dtype)]
    rois, _ = random_rois(20, 1, (96, 96))
    images = torch.full((20,), -1, dtype=torch.int32)
    got = multiscale_roi_align(
        kernels, *on_gpu(maps, rois, images), (7, 7), SCALES[:3], 2, 0, features_format=given
    )
    assert int(got.count_nonzero()) == 0


@pytest.mark.parametrize("given", [NCHW, NHWC])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_nan_cell_affects_no_roi_that_is_apart(kernels: Kernels, dtype, given) -> None:
    picture = (320, 480)
    maps = pyramid(4, 1, 64, picture, dtype)
    rois, _ = random_rois(400, 1, picture, seed=3)
    rois[0] = torch.tensor([230.0, 140.0, 280.0, 190.0])  # around the cell
    images = torch.zeros(len(rois), dtype=torch.int32)
    moved = on_gpu(maps, rois, images)
    expected = multiscale_roi_align(
        kernels, *moved, (7, 7), SCALES[:4], 2, 0, features_format=given, pooled_format=given
    )
    row, column, halo = 41, 63, 4  # in cells of the finest map
    moved[0][0][..., row, column] = NAN
    got = multiscale_roi_align(
        kernels, *moved, (7, 7), SCALES[:4], 2, 0, features_format=given, pooled_format=given
    )
    cells = rois * SCALES[0]
    near = (cells[:, 0] - halo <= column) & (column <= cells[:, 2] + halo)
    near &= (cells[:, 1] - halo <= row) & (row <= cells[:, 3] + halo)
    near &= torch.from_numpy(reference.level_indices(rois.numpy(), SCALES[:4]) == 0)
    assert 0 < int(near.sum()) < 100
    assert torch.equal(got[~near], expected[~near])
    reads = near & ((cells[:, 2:] - cells[:, :2]) <= 14).all(1)  # samples at most a cell apart
    reads &= (cells[:, 0] + 1 <= column) & (column <= cells[:, 2] - 1)
    reads &= (cells[:, 1] + 1 <= row) & (row <= cells[:, 3] - 1)
    assert bool(reads[0])
    assert bool(torch.isnan(got[reads]).flatten(1).any(1).all())


def test_scales_that_skip_a_level_and_empty_maps_give_zeros(kernels: Kernels) -> None:
    maps = [torch.ones(1, 4, 50, 50), torch.ones(1, 4, 13, 13)]
    sides = torch.tensor([20.0, 120.0, 199.0, 300.0] * 3)
    rois = torch.stack([0 * sides, 0 * sides, sides, sides], 1)
    images = torch.zeros(12, dtype=torch.int32)
    got = multiscale_roi_align(kernels, *on_gpu(maps, rois, images), (2, 2), [1 / 4, 1 / 16], 2, 0)
    assert [bool(roi.any()) for roi in got] == [True, True, True, False] * 3
    maps[0] = torch.ones(1, 4, 0, 50)
    got = multiscale_roi_align(kernels, *on_gpu(maps, rois, images), (2, 2), [1 / 4, 1 / 8], 2, 0)
    assert [bool(roi.any()) for roi in got] == [False, True, True, True] * 3


@pytest.mark.parametrize("given", [NCHW, NHWC])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_runs_are_bit_identical_in_graphs_and_streams(kernels: Kernels, dtype, given) -> None:
    picture = (800, 1216)
    maps, rois, images = on_gpu(
        pyramid(4, 1, 64, picture, dtype), *random_rois(700, 1, picture, seed=9)
    )
    call = MultiscaleCall(
        kernels, maps, rois, images, (7, 7), SCALES[:4], 2, 0, features_format=given,
        pooled_format=given,
    )  # fmt: skip
    call.run()
    first = call.result()
    for _ in range(100):
        call.run()
    assert torch.equal(call.result(), first)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call.run()
    call.pooled.tensor.fill_(7)
    graph.replay()
    assert torch.equal(call.result(), first)
    stream = torch.cuda.Stream()
    call.pooled.tensor.fill_(7)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        call.run()
    assert torch.equal(call.result(), first)


def test_wrong_arguments_launch_nothing(kernels: Kernels) -> None:
    maps, rois, images = on_gpu(pyramid(2, 1, 4, (64, 64)), *random_rois(8, 1, (64, 64)))

    def call(scales=(1 / 4, 1 / 8), sampling=2, aligned=0, canonical=(224, 4), **formats):
        return MultiscaleCall(
            kernels, maps, rois, images, (3, 3), list(scales), sampling, aligned, canonical,
            **formats,
        )  # fmt: skip

    for changes in (
        {"scales": (1 / 8, 1 / 4)},
        {"scales": (1 / 4, 0.0)},
        {"scales": (INF, 1 / 4)},
        {"scales": (1 / 4, NAN)},
        {"scales": (1 / 4, -1 / 8)},
        {"sampling": -1},
        {"aligned": 2},
        {"canonical": (0, 4)},
    ):
        with pytest.raises(RuntimeError, match="bad argument"):
            call(**changes).run()
    short = call()
    short.workspace.size -= 1
    with pytest.raises(RuntimeError, match="workspace too small"):
        short.run()
    one = call()
    one.maps, one.sides, one.scales = one.maps[:1], one.sides[:1], one.scales[:1]
    with pytest.raises(RuntimeError, match="bad argument"):
        one.run()
    torch.cuda.synchronize()
