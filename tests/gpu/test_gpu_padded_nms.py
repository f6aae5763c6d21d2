import gpu_reference as reference
import numpy as np
import pytest
from gpu_kernels import Kernels

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

from gpu_buffers import NmsCall, padded_nms  # noqa: E402 - needs torch

INF, NAN = float("inf"), float("nan")


def random_boxes(shape, extent=400.0, largest=80.0, seed=0):
    """Boxes [*shape, 4] float32; about a third of random pairs in a crowd overlap."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand((*shape, 2), generator=generator) * extent
    size = torch.rand((*shape, 2), generator=generator) * largest
    return torch.cat([corner, corner + size], -1)


def lattice_boxes(shape, seed=0):
    """Corners on whole half pixels below 256: areas and sums are exact in float32, fused or not."""
    return (random_boxes(shape, 200.0, 50.0, seed) * 2).round() / 2


def random_scores(shape, levels=None, seed=0):
    generator = torch.Generator().manual_seed(seed + 1)
    scores = torch.rand(shape, generator=generator)
    return scores if levels is None else (scores * levels).floor() / levels


def check(kernels, boxes, scores, iou=0.5, threshold=0.05, keep=100, offset=0):
    """The kernel on these CPU tensors, held against the reference; returns the kept rows."""
    indices, count = padded_nms(
        kernels, boxes.cuda().contiguous(), scores.cuda().contiguous(), iou, threshold, keep, offset
    )
    expected, expected_count = reference.padded_nms(
        boxes.float().numpy(), scores.float().numpy(), iou, threshold, keep, offset
    )
    assert count.tolist() == expected_count.tolist()
    np.testing.assert_array_equal(indices.numpy(), expected)
    return [row[:n].tolist() for row, n in zip(indices, count)]


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("batch", "classes", "shared", "count", "keep"),
    [
        (1, 1, True, 1, 1),
        (1, 1, True, 31, 100),
        (3, 1, True, 33, 5),
        (1, 1, True, 1000, 100),
        (2, 1, True, 2048, 300),
        (1, 1, True, 2049, 2049),
        (2, 3, True, 100, 20),
        (2, 3, False, 100, 400),
        (4, 2, False, 2500, 77),
        (1, 80, True, 300, 100),
        (1, 80, False, 1000, 100),
        (1, 1000, True, 64, 1000),
    ],
)
def test_random_boxes_agree_with_the_reference(
    kernels: Kernels, batch, classes, shared, count, keep, dtype, offset
) -> None:
    seed = batch + classes + count + keep
    boxes = random_boxes((batch, 1 if shared else classes, count), seed=seed).to(dtype)
    scores = random_scores((batch, classes, count), seed=seed).to(dtype)
    rows = check(kernels, boxes, scores, keep=keep, offset=offset)
    assert all(rows), "random boxes leave survivors, or the case shows nothing"


@pytest.mark.parametrize("iou", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("levels", [None, 7, 1])
def test_ties_and_thresholds_agree_with_the_reference(kernels: Kernels, levels, iou) -> None:
    for seed in range(4):
        boxes = lattice_boxes((2, 1, 700), seed=seed)
        scores = random_scores((2, 2, 700), levels, seed=seed)
        check(kernels, boxes, scores, iou=iou, threshold=-1.0, keep=900)


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("count", [1, 100, 1000, 6000])
def test_one_class_agrees_with_torchvision_s_nms_on_cuda(kernels: Kernels, count, iou) -> None:
    boxes = lattice_boxes((1, 1, count), seed=count).cuda()
    scores = random_scores((1, 1, count), 500, seed=count).cuda()
    expected = torchvision.ops.nms(boxes[0, 0], scores[0, 0], iou).tolist()
    indices, kept = padded_nms(kernels, boxes, scores, iou, -1.0, count, 0)
    assert kept.item() == len(expected)
    assert indices[0].tolist() == expected + [-1] * (count - len(expected))


@pytest.mark.parametrize("classes", [1, 5, 80])
def test_many_classes_match_batched_nms_on_cuda(kernels: Kernels, classes) -> None:
    count, keep = 250, 100
    boxes = lattice_boxes((1, classes, count), seed=classes).cuda()
    scores = random_scores((1, classes, count), seed=classes).cuda()
    labels = torch.arange(classes, device="cuda").repeat_interleave(count)
    expected = torchvision.ops.batched_nms(boxes.view(-1, 4), scores.view(-1), labels, 0.5)
    indices, kept = padded_nms(kernels, boxes, scores, 0.5, -1.0, keep, 0)
    assert kept.item() == min(keep, len(expected))
    assert indices[0, : kept.item()].tolist() == expected[:keep].tolist()


@pytest.mark.parametrize(
    ("batch", "classes", "count", "keep"), [(2, 3, 0, 4), (2, 0, 5, 4), (2, 3, 5, 0), (0, 3, 5, 4)]
)
def test_empty_sizes_give_only_padding(kernels: Kernels, batch, classes, count, keep) -> None:
    boxes = torch.zeros(batch, 1, count, 4, device="cuda")
    scores = torch.ones(batch, classes, count, device="cuda")
    indices, kept = padded_nms(kernels, boxes, scores, 0.5, 0.05, keep, 0)
    assert kept.tolist() == [0] * batch
    assert indices.tolist() == [[-1] * keep] * batch


def test_equal_boxes_keep_the_first_best(kernels: Kernels) -> None:
    boxes = torch.tensor([3.0, 4.0, 10.0, 12.0]).expand(1, 1, 500, 4)
    assert check(kernels, boxes, torch.full((1, 1, 500), 0.5)) == [[0]]
    scores = torch.full((1, 2, 500), 0.5)
    scores[0, 0, 123] = scores[0, 0, 321] = 0.75
    assert check(kernels, boxes, scores) == [[123, 500]]


def test_scores_at_or_below_the_threshold_and_nan_are_dropped(kernels: Kernels) -> None:
    boxes = torch.arange(8.0).view(1, 1, 8, 1) * 100 + torch.tensor([0.0, 0.0, 9.0, 9.0])
    scores = torch.tensor([[[0.5, NAN, INF, -INF, 0.25, 0.2500001, 0.0, -0.0]]])
    assert check(kernels, boxes, scores, threshold=0.25) == [[2, 0, 5]]
    assert check(kernels, boxes, scores, threshold=-INF) == [[2, 0, 5, 4, 6, 7]]
    assert check(kernels, boxes, scores, threshold=INF) == [[]]
    assert check(kernels, boxes, scores.flip(2), threshold=-1.0) == [[5, 7, 2, 3, 0, 1]]
    assert check(kernels, boxes, torch.full((1, 3, 8), NAN)) == [[]]


def test_nan_and_infinite_corners_suppress_nothing(kernels: Kernels) -> None:
    rows = [[0, 0, 10, 10], [0, 0, 10, 10], [NAN, 0, 10, 10], [0, NAN, 10, 10], [0, 0, 10, NAN],
            [-INF, 0, INF, 10], [0, 0, INF, 10], [INF, INF, INF, INF], [NAN] * 4]  # fmt: skip
    boxes = torch.tensor(rows).view(1, 1, -1, 4)
    scores = torch.linspace(0.9, 0.5, len(rows)).view(1, 1, -1)
    assert check(kernels, boxes, scores) == [[0, 2, 3, 4, 5, 6, 7, 8]]
    assert check(kernels, boxes.flip(2), scores) == [[0, 1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("iou", [0.0, 0.5, -1.0])
def test_degenerate_boxes_agree_with_the_reference(kernels: Kernels, iou, offset) -> None:
    generator = torch.Generator().manual_seed(5)
    corners = torch.randint(0, 6, (2, 1, 300, 4), generator=generator).float()  # many inside out
    scores = random_scores((2, 2, 300), 20)
    rows = check(kernels, corners, scores, iou=iou, keep=600, offset=offset)
    assert min(len(row) for row in rows) >= 2


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("batch", "classes", "shared", "count", "keep"),
    [
        (2, 1, True, 33, 40),
        (1, 3, False, 200, 700),
        (2, 1, True, 2048, 3000),
        (1, 1, True, 2500, 2500),
        (1, 33, True, 2100, 50),
        (2, 2, False, 4500, 10_000),
    ],
)
def test_extreme_boxes_and_scores_match_the_reference(
    kernels: Kernels, batch, classes, shared, count, keep, dtype, offset
) -> None:
    random = np.random.default_rng(count)
    corners = np.float32(
        [0, -0.0, 1, -1, 10.5, 100, 1e9, -1e30, 3e38, -3e38, INF, -INF, NAN, 1e-45]
    )
    levels = np.float32([0, -0.0, 0.5, 0.9, 1, -1, INF, -INF, NAN, 3e38, -3e38, 1e-45])
    boxes = random_boxes((batch, 1 if shared else classes, count), seed=count).numpy()
    extreme = random.random(boxes.shape[:3]) < 0.3
    boxes[extreme] = random.choice(corners, size=(np.count_nonzero(extreme), 4))
    scores = random_scores((batch, classes, count), 50, seed=count).numpy()
    extreme = random.random(scores.shape) < 0.3
    scores[extreme] = random.choice(levels, size=np.count_nonzero(extreme))
    for iou, threshold in ((0.5, 0.05), (0.0, -INF), (-1.0, -3e38), (INF, 0.4), (0.5, INF)):
        check(
            kernels, torch.from_numpy(boxes).to(dtype), torch.from_numpy(scores).to(dtype), iou,
            threshold, keep, offset,
        )  # fmt: skip


def test_box_offset_one_counts_both_edge_pixels(kernels: Kernels) -> None:
    # With +1: areas 100 and 100, intersection 50, IoU 1/3. Without: 81, 81, 36: 2/7.
    boxes = torch.tensor([[0.0, 0, 9, 9], [5, 0, 14, 9]]).view(1, 1, 2, 4)
    scores = torch.tensor([[[0.9, 0.8]]])
    assert check(kernels, boxes, scores, iou=0.3, offset=0) == [[0, 1]]
    assert check(kernels, boxes, scores, iou=0.3, offset=1) == [[0]]
    third = float(np.float32(50) / np.float32(150))
    assert check(kernels, boxes, scores, iou=third, offset=1) == [[0, 1]], "the compare is strict"


def test_a_suppressed_box_suppresses_nothing(kernels: Kernels) -> None:
    chain = torch.arange(64.0).view(1, 1, 64, 1) * 4 + torch.tensor([0.0, 0.0, 10.0, 10.0])
    scores = torch.linspace(0.9, 0.6, 64).view(1, 1, 64)
    assert check(kernels, chain, scores, iou=0.2) == [list(range(0, 64, 2))]


@pytest.mark.parametrize("count", [100_000, 65_537])
def test_huge_numbers_of_boxes_agree_with_the_reference(kernels: Kernels, count) -> None:
    boxes = random_boxes((1, 1, count), extent=2000.0, seed=count)
    check(kernels, boxes, random_scores((1, 1, count), 5000), iou=0.6, keep=1000)


def test_large_batch_matches_the_reference(kernels: Kernels) -> None:
    boxes = random_boxes((8, 1, 3000), seed=8)
    scores = random_scores((8, 20, 3000), 2000, seed=8)
    check(kernels, boxes, scores, iou=0.4, threshold=0.8, keep=500)


def test_unaligned_inputs_are_read(kernels: Kernels) -> None:
    boxes, scores = random_boxes((1, 1, 200)), random_scores((1, 1, 200))
    for dtype in (torch.float32, torch.float16):
        storage = torch.zeros(1001 + 200, dtype=dtype, device="cuda")
        odd_boxes = storage[1:801].view(1, 1, 200, 4).copy_(boxes)
        odd_scores = storage[801:1001].view(1, 1, 200).copy_(scores)
        got = padded_nms(kernels, odd_boxes, odd_scores, 0.5, 0.05, 50, 0)
        expected = padded_nms(kernels, odd_boxes.clone(), odd_scores.clone(), 0.5, 0.05, 50, 0)
        assert torch.equal(got[0], expected[0])
        assert torch.equal(got[1], expected[1])


@pytest.mark.parametrize(("classes", "count"), [(1, 5000), (80, 200)])
def test_graph_replays_follow_their_inputs(kernels: Kernels, classes, count) -> None:
    boxes = random_boxes((2, 1, count), seed=1).cuda()
    scores = random_scores((2, classes, count), seed=1).cuda()
    call = NmsCall(kernels, boxes, scores, 0.5, 0.05, 100, 0)
    call.run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call.run()
    for seed in (2, 3):
        boxes.copy_(random_boxes((2, 1, count), seed=seed))
        scores.copy_(random_scores((2, classes, count), seed=seed))
        call.indices.tensor.fill_(77)
        graph.replay()
        indices, kept = call.result()
        expected = reference.padded_nms(
            boxes.cpu().numpy(), scores.cpu().numpy(), 0.5, 0.05, 100, 0
        )
        np.testing.assert_array_equal(indices.numpy(), expected[0])
        np.testing.assert_array_equal(kept.numpy(), expected[1])


def test_runs_in_the_given_stream_concurrently(kernels: Kernels) -> None:
    streams = [torch.cuda.Stream() for _ in range(2)]
    calls = []
    for seed in range(2):
        boxes = random_boxes((1, 1, 3000), seed=seed)
        scores = random_scores((1, 4, 3000), seed=seed)
        calls.append(NmsCall(kernels, boxes.cuda(), scores.cuda(), 0.5, 0.05, 100, 0))
    torch.cuda.synchronize()
    late = calls[0].scores.clone()
    calls[0].scores.zero_()
    torch.cuda.synchronize()
    with torch.cuda.stream(streams[0]):
        torch.cuda._sleep(20_000_000)  # the call must wait for this and the copy behind it
        calls[0].scores.copy_(late)
        calls[0].run()
    with torch.cuda.stream(streams[1]):
        calls[1].run()
    for call in calls:
        indices, kept = call.result()
        expected = reference.padded_nms(
            call.boxes.cpu().numpy(), call.scores.cpu().numpy(), 0.5, 0.05, 100, 0
        )
        np.testing.assert_array_equal(indices.numpy(), expected[0])
        np.testing.assert_array_equal(kept.numpy(), expected[1])


def test_a_hundred_runs_give_the_same_bits(kernels: Kernels) -> None:
    boxes = random_boxes((2, 1, 4000), seed=4).cuda()
    scores = random_scores((2, 8, 4000), 300, seed=4).cuda()
    call = NmsCall(kernels, boxes, scores, 0.5, 0.05, 400, 1)
    call.run()
    first = call.result()
    for _ in range(100):
        call.workspace.tensor.random_(0, 256)
        call.run()
        again = call.result()
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], again[1])
