"""The static form of torchvision's two-stage detectors, function by function."""

from types import SimpleNamespace

import pytest
import torch
from torchvision.models.detection import roi_heads, transform
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign

from trtyard.pipeline.export.exporter import export_model
from trtyard.pipeline.models.static_detectors import shared
from trtyard.pipeline.models.static_detectors.box_detections import detect
from trtyard.pipeline.models.static_detectors.keypoints import keypoints_of
from trtyard.pipeline.models.static_detectors.masks import _whole, mask_of_label, pasted
from trtyard.pipeline.models.static_detectors.order import descending_in_turn
from trtyard.pipeline.models.static_detectors.padded_boxes import PADDED_CORNER, is_box
from trtyard.pipeline.models.static_detectors.pooling import pool, pool_each
from trtyard.pipeline.models.static_detectors.proposals import propose
from trtyard.pipeline.models.static_detectors.suppression import MOST_SHIFTED

SIZE = (96, 144)  # one to one and a half
CELLS = ((24, 36), (12, 18), (6, 9), (3, 5))


def unpadded(boxes):
    """Return the rows that are boxes, which must come first."""
    found = is_box(boxes)
    count = int(found.sum())
    assert bool(found[:count].all())
    assert bool((boxes[count:] == PADDED_CORNER).all())
    return boxes[:count]


def random_boxes(draw, count, size=SIZE, smallest=0.0):
    """Return boxes float32 [count, 4] in a picture, of all sizes."""
    height, width = size
    low = torch.rand(count, 2, generator=draw)
    high = low + (1 - low) * torch.rand(count, 2, generator=draw) ** 2 + smallest
    boxes = torch.cat([low, high], 1) * torch.tensor([width, height, width, height])
    return boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height]))


def proposal_network(draw, top_n, deviation, score_thresh=0.0, post_nms_top_n=300):
    """Return a proposal network whose head returns random logits, and its inputs."""
    sizes = tuple((each,) for each in (8, 16, 32, 64))
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    logits = [torch.randn(1, 3, *cells, generator=draw) * deviation for cells in CELLS]
    deltas = [torch.randn(1, 12, *cells, generator=draw) * 0.3 for cells in CELLS]
    numbers = {"training": 0, "testing": top_n}
    after = {"training": 0, "testing": post_nms_top_n}
    network = RegionProposalNetwork(
        anchors, lambda _: (logits, deltas), 0.7, 0.3, 256, 0.5, numbers, after, 0.7, score_thresh
    ).eval()
    images = ImageList(torch.zeros(1, 3, 96, 160), [SIZE])
    features = {str(level): torch.zeros(1, 4, *cells) for level, cells in enumerate(CELLS)}
    return network, images, features


@pytest.mark.parametrize("top_n", [30, 200, 1000], ids=["few", "shifted", "by-level"])
@pytest.mark.parametrize("deviation", [1.0, 4.0, 12.0])  # large logits have one sigmoid
@pytest.mark.parametrize("score_thresh", [0.0, 0.6])
def test_proposals_are_torchvisions(top_n, deviation, score_thresh):
    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        kept = 3000 if top_n == 1000 else 300
        network, images, features = proposal_network(draw, top_n, deviation, score_thresh, kept)
        (expected,), _ = network(images, features)
        (found,), losses = propose(network, images, features)
        found = unpadded(found)
        assert losses == {}
        assert len(found) == len(expected) > 20
        if top_n == 1000:
            # torchvision's last sort is not stable there, and equal sigmoids are in any order.
            found, expected = by_corners(found), by_corners(expected)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def by_corners(boxes):
    return torch.tensor(sorted(boxes.tolist()))


def test_no_proposal_is_only_padding():
    draw = torch.Generator().manual_seed(0)
    network, images, features = proposal_network(draw, 100, 1.0, score_thresh=1.1)
    (found,), _ = propose(network, images, features)
    assert found.shape == (300, 4)
    assert len(unpadded(found)) == 0


def test_equal_logits_are_taken_by_anchor():
    draw = torch.Generator().manual_seed(0)
    network, images, features = proposal_network(draw, 20, 0.0)
    (found,), _ = propose(network, images, features)
    (again,), _ = propose(network, images, features)
    assert torch.equal(found, again)
    assert len(unpadded(found)) > 0


def box_heads(score_thresh=0.05, detections=100):
    return roi_heads.RoIHeads(
        None, None, None, 0.5, 0.5, 512, 0.25, None, score_thresh, 0.5, detections
    ).eval()


def with_padded_rows(boxes, count):
    rest = torch.full((count - len(boxes), 4), PADDED_CORNER)
    return torch.cat([boxes, rest])


def detections_of(heads, logits, deltas, boxes, rows):
    """Return torchvision's detections for the boxes, and the static ones for padded boxes."""
    count = len(boxes)
    expected = heads.postprocess_detections(logits[:count], deltas[:count], [boxes], [SIZE])
    found = detect(heads, logits, deltas, [with_padded_rows(boxes, rows)], [SIZE])
    return [each[0] for each in expected], [each[0] for each in found]


@pytest.mark.parametrize("classes", [2, 21, 91])
@pytest.mark.parametrize("count", [0, 1, 60, 150])
@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_detections_are_torchvisions(classes, count, spread):
    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        logits = torch.randn(150, classes, generator=draw) * spread
        deltas = torch.randn(150, classes * 4, generator=draw)
        boxes = random_boxes(draw, count)
        expected, found = detections_of(box_heads(), logits, deltas, boxes, 150)
        same_detections(expected, found)


@pytest.mark.parametrize("score_thresh", [0.0, 0.002])
def test_suppression_shifts_boxes_only_up_to_torchvisions_limit(score_thresh):
    draw = torch.Generator().manual_seed(5)
    logits = torch.randn(150, 91, generator=draw)
    boxes = random_boxes(draw, 150)
    heads = box_heads(score_thresh, 3000)
    scores = torch.softmax(logits, -1)[:, 1:]
    assert (int((scores > score_thresh).sum()) > MOST_SHIFTED) == (score_thresh < 0.01)
    deltas = torch.randn(150, 364, generator=draw) * 0.3
    expected, found = detections_of(heads, logits, deltas, boxes, 150)
    if score_thresh == 0.0:
        # torchvision's last sort is not stable there, and equal scores are in any order.
        expected, found = by_score(expected), by_score(found)
    same_detections(expected, found)


def by_score(detections):
    boxes, scores, _ = detections
    order = sorted(range(len(scores)), key=lambda row: (-float(scores[row]), boxes[row].tolist()))
    return [each[order] for each in detections]


def same_detections(expected, found):
    count = len(expected[1])
    for wanted, made in zip(expected, found):
        torch.testing.assert_close(made[:count], wanted, rtol=0, atol=0)
    boxes, scores, labels = found
    assert len(unpadded(boxes)) == count
    assert not bool(scores[count:].any())
    assert not bool(labels[count:].any())


def test_equal_scores_are_ordered_by_proposal_then_class():
    logits = torch.tensor([[0.0, 1.0, 2.0, 2.0]]).repeat(20, 1)
    boxes = torch.arange(20.0)[:, None] * 4 + torch.tensor([0.0, 0.0, 3.0, 3.0])
    deltas = torch.zeros(20, 16)
    heads = box_heads()
    for count in (20, 7):
        same_detections(*detections_of(heads, logits, deltas, boxes[:count], 20))


def test_rows_sort_by_score_then_turn_then_place():
    scores = torch.tensor([[0.5, 0.9, 0.5, 0.5, 0.1, 0.9], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]])
    turns = torch.tensor([[3.0, 2.0, 1.0, 3.0, 0.0, 1.0]])
    order = descending_in_turn(scores, turns, 6)
    assert order.tolist() == [[5, 1, 2, 0, 3, 4], [5, 4, 3, 2, 1, 0]]


@pytest.mark.parametrize("static", [pool, pool_each])
@pytest.mark.parametrize("sampling_ratio", [2, -1])
def test_pooling_is_torchvisions(sampling_ratio, static):
    draw = torch.Generator().manual_seed(0)
    size = (512, 768)
    strides = (4, 8, 16, 32)
    maps = {
        str(level): torch.randn(1, 6, size[0] // each, size[1] // each, generator=draw)
        for level, each in enumerate(strides)
    }
    maps["pool"] = torch.randn(1, 6, 8, 12, generator=draw)  # torchvision leaves it out
    boxes = random_boxes(draw, 100, size)
    sides = torch.tensor([28.0, 111.999, 112.0, 224.0, 448.0])
    edges = torch.stack([sides * 0, sides * 0, sides, sides], 1)
    boxes = torch.cat([boxes, edges])
    module = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, sampling_ratio)
    expected = module(maps, [boxes], [size])
    found = static(module, maps, [with_padded_rows(boxes, 120)], [size])
    torch.testing.assert_close(found[: len(boxes)], expected, rtol=0, atol=1e-6)
    assert not bool(found[len(boxes) :].any())


def test_maps_of_one_scale_are_one_level():
    # fasterrcnn_mobilenet_v3_large_fpn has two of them. torchvision takes the first.
    draw = torch.Generator().manual_seed(0)
    maps = {name: torch.randn(1, 6, 4, 6, generator=draw) for name in "01"}
    boxes = random_boxes(draw, 10, (128, 192))
    module = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    expected = module(maps, [boxes], [(128, 192)])
    found = pool(module, maps, [boxes], [(128, 192)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_the_mask_of_each_label_is_taken():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 5, 28, 28, generator=draw)
    labels = torch.tensor([1, 4, 2, 2, 3, 1, 0, 0])
    (expected,) = roi_heads.maskrcnn_inference(logits, [labels])
    (found,) = mask_of_label(logits, [labels])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("size", [SIZE, (1, 1), (33, 7)])
def test_masks_are_pasted_as_torchvision_does(size):
    draw = torch.Generator().manual_seed(0)
    boxes = random_boxes(draw, 40, size)
    height, width = map(float, size)
    whole = [[0.0, 0.0, width, height], [width, height, width, height], [0.0, 0.0, 0.01, 0.01]]
    boxes = torch.cat([boxes, torch.tensor(whole)])
    masks = torch.rand(len(boxes), 1, 28, 28, generator=draw)
    expected = roi_heads.paste_masks_in_image(masks, boxes, size)
    found = pasted(masks, boxes, size)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert torch.equal(found == 0, expected == 0)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_pasting_has_no_cast_that_onnxruntime_removes():
    # ONNX Runtime 1.1 removes a cast to int64 and back, and then corners are not whole pixels.
    boxes = torch.tensor([[-0.7, 0.3, 9.6, 8.2]])
    traced = torch.jit.trace(lambda masks: pasted(masks, boxes, SIZE), torch.rand(1, 1, 28, 28))
    casts = [node for node in traced.graph.nodes() if node.kind() in ("aten::to", "aten::trunc")]
    assert casts == []
    values = torch.tensor([-1.5, -0.3, 0.0, 0.9, 2.0])
    assert torch.equal(_whole(values), values.trunc())


@pytest.mark.parametrize(("first_cell", "of_one"), [(True, 0.0), (False, 56.0)])
def test_enlarging_to_one_pixel_follows_torch(first_cell, of_one, monkeypatch):
    assert not shared._ONE_PIXEL_IS_FIRST_CELL  # it is in torch 1.4
    monkeypatch.setattr(shared, "_ONE_PIXEL_IS_FIRST_CELL", first_cell)
    found = shared.cells_per_pixel(56, torch.tensor([1.0, 2.0, 7.0]))
    assert found.tolist() == [of_one, 28.0, 8.0]


@pytest.mark.parametrize("new", [SIZE, (50, 61)])
def test_boxes_are_scaled_on_their_own_device(new):
    boxes = random_boxes(torch.Generator().manual_seed(0), 9)
    found = shared.resize_boxes(boxes, SIZE, new)
    torch.testing.assert_close(found, transform.resize_boxes(boxes, SIZE, new), rtol=0, atol=0)
    assert shared.resize_boxes(boxes.to("meta"), SIZE, new).device.type == "meta"


@pytest.mark.parametrize("size", [SIZE, (40, 30)])
def test_keypoints_are_torchvisions(size):
    draw = torch.Generator().manual_seed(0)
    boxes = random_boxes(draw, 12, size)
    height, width = map(float, size)
    boxes = torch.cat([boxes, torch.tensor([[0.0, 0.0, width, height], [1.0, 1.0, 1.2, 1.1]])])
    heatmaps = torch.randn(len(boxes), 5, 56, 56, generator=draw)
    heatmaps[0, 0] = 0  # every place is the highest: the first is taken
    expected, scores = roi_heads.heatmaps_to_keypoints(heatmaps, boxes)
    found, found_scores = keypoints_of(heatmaps, boxes, size)
    torch.testing.assert_close(found_scores, scores, rtol=0, atol=1e-4)
    for row, place in torch.nonzero((found != expected).any(2)).tolist():
        assert is_tie(heatmaps[row, place], boxes[row], found[row, place], scores[row, place])


def is_tie(heatmap, box, found, score):
    """Return whether torchvision's enlarged heatmap is as high at another place."""
    width, height = (box[2:] - box[:2]).clamp(min=1).tolist()
    columns, rows = -int(-width // 1), -int(-height // 1)
    enlarged = torch.nn.functional.interpolate(
        heatmap[None, None], size=(rows, columns), mode="bicubic", align_corners=False
    )[0, 0]
    x = int((found[0] - box[0]) * columns / width)
    y = int((found[1] - box[1]) * rows / height)
    return abs(float(enlarged[y, x] - score)) <= 1e-5


def test_a_heatmap_that_is_enlarged_has_its_highest_place():
    heatmap = torch.zeros(1, 1, 56, 56)
    heatmap[0, 0, 20, 30] = 1.0
    box = torch.tensor([[8.0, 4.0, 8.0 + 112, 4.0 + 56]])
    found, _ = keypoints_of(heatmap, box, SIZE)
    expected, _ = roi_heads.heatmaps_to_keypoints(heatmap, box)
    assert found.tolist() == expected.tolist()


class Keypoints(torch.nn.Module):
    def forward(self, heatmaps, boxes):
        return keypoints_of(heatmaps, boxes, SIZE)


def test_file_has_no_constant_of_the_enlarged_heatmaps():
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(4, 2, 56, 56, generator=draw), random_boxes(draw, 4)
    names = ["heatmaps", "boxes"], ["keypoints", "scores"]
    graph = export_model(Keypoints(), inputs, *names, "torchscript", 18)[0].graph
    constants = [node.attribute[0].t for node in graph.node if node.op_type == "Constant"]
    sizes = [len(tensor.raw_data) for tensor in [*constants, *graph.initializer]]
    assert max(sizes) < 4 * SIZE[0] * SIZE[1] * torch.float32.itemsize


def test_heads_without_names_are_not_needed():
    """The functions use only these attributes, which torchvision 0.5 has too."""
    heads = SimpleNamespace(
        box_coder=box_heads().box_coder, score_thresh=0.05, nms_thresh=0.5, detections_per_img=9
    )
    draw = torch.Generator().manual_seed(0)
    boxes = random_boxes(draw, 20)
    logits, deltas = torch.randn(20, 5, generator=draw), torch.randn(20, 20, generator=draw)
    found = detect(heads, logits, deltas, [boxes], [SIZE])
    assert [each[0].shape[0] for each in found] == [9, 9, 9]
