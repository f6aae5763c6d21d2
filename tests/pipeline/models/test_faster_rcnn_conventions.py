"""maskrcnn-benchmark's conventions, against numbers that were computed elsewhere or by hand."""

import math

import numpy as np
import pytest
import torch

from trtyard.pipeline.models.faster_rcnn import conventions as c
from trtyard.pipeline.models.faster_rcnn.anchors import cell_anchors, grid_anchors
from trtyard.pipeline.models.faster_rcnn.boxes import clip, decode, last_pixels
from trtyard.pipeline.models.faster_rcnn.network import FasterRCNN
from trtyard.pipeline.models.faster_rcnn.preprocess import network_input, resized_size
from trtyard.pipeline.models.faster_rcnn.proposals import ImageShape
from trtyard.pipeline.models.faster_rcnn.resnet import FrozenBatchNorm, backbone_and_head

# The table of py-faster-rcnn for stride 16: ratios 0.5, 1, 2, and for each the sizes 128, 256, 512.
PUBLISHED_ANCHORS = [
    [-84, -40, 99, 55],
    [-176, -88, 191, 103],
    [-360, -184, 375, 199],
    [-56, -56, 71, 71],
    [-120, -120, 135, 135],
    [-248, -248, 263, 263],
    [-36, -80, 51, 95],
    [-80, -168, 95, 183],
    [-168, -344, 183, 359],
]


def encode(targets, boxes, weights):
    """The inverse of decoding, by the paper, with widths that count both edge pixels."""
    sides, target_sides = (each[:, 2:] - each[:, :2] + 1 for each in (boxes, targets))
    centers = boxes[:, :2] + sides / 2
    target_centers = targets[:, :2] + target_sides / 2
    moved = (target_centers - centers) / sides
    return torch.cat((moved, torch.log(target_sides / sides)), dim=1) * torch.tensor(weights)


def random_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand((count, 2), generator=generator) * 400
    return torch.cat(
        (corner, corner + 1 + torch.rand((count, 2), generator=generator) * 200), dim=1
    )


def test_the_cell_anchors_are_the_published_ones():
    anchors = cell_anchors().reshape(3, 5, 4)
    assert anchors[:, 2:].reshape(-1, 4).tolist() == PUBLISHED_ANCHORS
    # The sizes that were added for COCO: 23 x 12, 16 x 16 and 11 x 22 cells scaled by 2 and 4.
    assert anchors[0, 0].tolist() == [-15, -4, 30, 19]
    assert anchors[1, 0].tolist() == [-8, -8, 23, 23]
    assert anchors[2, 0].tolist() == [-3, -14, 18, 29]
    assert anchors[1, 1].tolist() == [-24, -24, 39, 39]


def test_anchors_are_ordered_by_row_column_and_kind():
    grid = grid_anchors(3, 4).reshape(3, 4, 15, 4)
    for row in range(3):
        for column in range(4):
            shift = torch.tensor([column * 16.0, row * 16.0] * 2)
            assert torch.equal(grid[row, column], cell_anchors() + shift)


@pytest.mark.parametrize(("height", "width"), [(512, 512), (511, 513), (64, 65), (800, 1333)])
def test_there_is_an_anchor_for_each_cell_of_the_feature_map(height, width):
    shape = ImageShape(1, height, width)
    features = torch.zeros(1, 1, height, width)
    for kernel, padding in ((7, 3), (3, 1), (1, 0), (1, 0)):  # the four strides of two
        features = torch.nn.functional.max_pool2d(features, kernel, 2, padding)
    assert shape.cells == tuple(features.shape[2:])
    assert len(grid_anchors(*shape.cells)) == shape.anchors


def test_decoding_by_hand():
    box = torch.tensor([[10.0, 20.0, 29.0, 59.0]])  # 20 wide and 40 high around (20, 40)
    same = decode(torch.zeros(1, 4), box, (1.0, 1.0, 1.0, 1.0))
    assert same.tolist() == box.tolist()
    moved = decode(torch.tensor([[1.0, -0.5, 0.0, 0.0]]), box, (1.0, 1.0, 1.0, 1.0))
    assert moved.tolist() == [[30.0, 0.0, 49.0, 39.0]]
    grown = decode(torch.tensor([[0.0, 0.0, math.log(2.0), 0.0]]), box, (1.0, 1.0, 1.0, 1.0))
    torch.testing.assert_close(grown, torch.tensor([[0.0, 20.0, 39.0, 59.0]]))
    weighted = decode(
        torch.tensor([[10.0, -5.0, 5 * math.log(2.0), 0.0]]), box, (10.0, 10.0, 5.0, 5.0)
    )
    torch.testing.assert_close(weighted, torch.tensor([[20.0, 0.0, 59.0, 39.0]]))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_decoding_inverts_encoding(weights):
    boxes, targets = random_boxes(500, 0), random_boxes(500, 1)
    near = (targets[:, 2:] - targets[:, :2] + 1) / (boxes[:, 2:] - boxes[:, :2] + 1)
    kept = (near < 60).all(dim=1)
    assert kept.sum() > 400
    decoded = decode(encode(targets, boxes, weights)[kept], boxes[kept], weights)
    torch.testing.assert_close(decoded, targets[kept], rtol=1e-5, atol=1e-2)


def test_a_box_grows_at_most_from_16_to_1000_pixels():
    box = torch.tensor([[0.0, 0.0, 15.0, 15.0]])
    x1, y1, x2, y2 = decode(torch.tensor([[0.0, 0.0, 80.0, 4.0]]), box, (1.0,) * 4)[0].tolist()
    assert x2 - x1 + 1 == pytest.approx(1000, rel=1e-5)
    assert y2 - y1 + 1 == pytest.approx(16 * math.exp(4.0), rel=1e-5)  # below the limit
    assert decode(torch.full((1, 4), -1e4), box, (1.0,) * 4).isfinite().all()


def test_boxes_are_clipped_to_the_last_pixel():
    boxes = torch.tensor(
        [[-5.0, -6.0, 700.0, 500.0], [3.0, 4.0, 5.0, 6.0], [900.0, 9.0, 901.0, 8.0]]
    )
    assert clip(boxes, last_pixels(height=480, width=640)).tolist() == [
        [0, 0, 639, 479],
        [3, 4, 5, 6],
        [639, 9, 639, 8],
    ]


@pytest.mark.parametrize(
    ("width", "height", "shorter", "expected"),
    [
        (512, 512, 512, (512, 512)),
        (512, 512, 800, (800, 800)),
        (640, 480, 800, (1066, 800)),  # 1066.67 is cut off
        (480, 640, 800, (800, 1066)),
        (500, 375, 800, (1066, 800)),
        (1000, 400, 800, (1332, 533)),  # 533.2 is rounded, then 1332.5 is cut off
        (400, 1000, 800, (533, 1332)),
        (1920, 1080, 800, (1333, 750)),  # 749.8 is rounded up
        (800, 1000, 800, (800, 1000)),
        (16, 16384, 800, (1, 1024)),
        (333, 250, 100, (133, 100)),
    ],
)
def test_resize_follows_the_original_project(width, height, shorter, expected):
    assert resized_size(width, height, shorter) == expected


def test_the_input_is_bgr_less_the_means():
    rgb = np.zeros((70, 90, 3), np.uint8)
    rgb[...] = (200, 100, 50)
    images = network_input(rgb, 64)
    assert tuple(images.shape) == (1, 3, 64, 82)
    for channel, expected in enumerate((50 - 102.9801, 100 - 115.9465, 200 - 122.7717)):
        torch.testing.assert_close(images[0, channel], torch.full((64, 82), expected))


def test_a_picture_of_the_right_size_is_not_resampled():
    rgb = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    images = network_input(rgb, 64)
    means = torch.tensor([102.9801, 115.9465, 122.7717])
    back = images[0].permute(1, 2, 0) + means
    np.testing.assert_allclose(back.flip(-1).numpy(), rgb, atol=1e-4)


def test_frozen_norms_have_no_epsilon():
    norm = FrozenBatchNorm(2)
    norm.running_var.copy_(torch.tensor([1e-8, 4.0]))
    norm.running_mean.copy_(torch.tensor([1.0, -1.0]))
    norm.weight.copy_(torch.tensor([1e-4, 3.0]))
    norm.bias.copy_(torch.tensor([0.5, 0.25]))
    x = torch.randn(2, 2, 3, 3)
    expected = torch.stack((x[:, 0] - 1.0 + 0.5, (x[:, 1] + 1.0) * 1.5 + 0.25), dim=1)
    torch.testing.assert_close(norm(x), expected)
    norm.train()
    torch.testing.assert_close(norm(x), expected)  # frozen in both modes
    assert sorted(norm.state_dict()) == ["bias", "running_mean", "running_var", "weight"]


def test_each_stages_stride_is_in_its_first_1x1_convolution():
    backbone, head = backbone_and_head()
    stages = [getattr(backbone.body, f"layer{number}") for number in (1, 2, 3)] + [head.layer4]
    for stage, blocks, stride in zip(stages, (3, 4, 6, 3), (1, 2, 2, 2)):
        assert len(stage) == blocks
        assert stage[0].conv1.stride == (stride, stride)
        assert stage[0].downsample[0].stride == (stride, stride)
        for block in stage:
            assert block.conv2.stride == (1, 1)
        for block in stage[1:]:
            assert block.conv1.stride == (1, 1)
            assert block.downsample is None


def test_the_head_reads_only_every_second_cell():
    _, head = backbone_and_head()
    x = torch.rand(1, 1024, 14, 14)
    other = x.clone()
    other[:, :, 1::2] += 1
    other[:, :, :, 1::2] += 1
    with torch.no_grad():
        assert torch.equal(head(x), head(other))
        assert tuple(head(x).shape) == (1, 2048, 7, 7)


def published_keys():
    """Return the keys below ``model`` and their shapes, without the table of anchors."""
    keys = {}

    def norm(name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            keys[f"{name}.{part}"] = (channels,)

    def stage(name, inputs, width, blocks):
        for block in range(blocks):
            here = f"{name}.{block}"
            into = inputs if block == 0 else width * 4
            for number, (outputs, channels, kernel) in enumerate(
                ((width, into, 1), (width, width, 3), (width * 4, width, 1)), start=1
            ):
                keys[f"{here}.conv{number}.weight"] = (outputs, channels, kernel, kernel)
                norm(f"{here}.bn{number}", outputs)
        keys[f"{name}.0.downsample.0.weight"] = (width * 4, inputs, 1, 1)
        norm(f"{name}.0.downsample.1", width * 4)

    keys["backbone.body.stem.conv1.weight"] = (64, 3, 7, 7)
    norm("backbone.body.stem.bn1", 64)
    stage("backbone.body.layer1", 64, 64, 3)
    stage("backbone.body.layer2", 256, 128, 4)
    stage("backbone.body.layer3", 512, 256, 6)
    stage("roi_heads.box.feature_extractor.head.layer4", 1024, 512, 3)
    for name, shape in (
        ("rpn.head.conv", (1024, 1024, 3, 3)),
        ("rpn.head.cls_logits", (15, 1024, 1, 1)),
        ("rpn.head.bbox_pred", (60, 1024, 1, 1)),
        ("roi_heads.box.predictor.cls_score", (81, 2048)),
        ("roi_heads.box.predictor.bbox_pred", (324, 2048)),
    ):
        keys[f"{name}.weight"] = shape
        keys[f"{name}.bias"] = shape[:1]
    return keys


def test_state_matches_published_checkpoints():
    network = FasterRCNN(ImageShape(1, 64, 64))
    own = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert own == published_keys()


def test_the_configuration_is_the_published_one():
    """By the names of that project's own configuration keys."""
    assert {
        "INPUT.PIXEL_MEAN": c.PIXEL_MEANS_BGR,
        "INPUT.MIN_SIZE_TEST": c.SHORTER_SIDE,
        "INPUT.MAX_SIZE_TEST": c.LONGER_SIDE_LIMIT,
        "RPN.ANCHOR_SIZES": c.ANCHOR_SIZES,
        "RPN.ASPECT_RATIOS": c.ANCHOR_RATIOS,
        "RPN.ANCHOR_STRIDE": c.STRIDE,
        "RPN.PRE_NMS_TOP_N_TEST": c.CANDIDATES,
        "RPN.POST_NMS_TOP_N_TEST": c.PROPOSALS,
        "RPN.NMS_THRESH": c.PROPOSAL_IOU,
        "RPN.MIN_SIZE": c.PROPOSAL_MINIMUM_SIDE,
        "ROI_HEADS.BBOX_REG_WEIGHTS": c.DETECTION_WEIGHTS,
        "ROI_HEADS.SCORE_THRESH": c.SCORE_THRESHOLD,
        "ROI_HEADS.NMS": c.DETECTION_IOU,
        "ROI_HEADS.DETECTIONS_PER_IMG": c.DETECTIONS,
        "ROI_BOX_HEAD.POOLER_RESOLUTION": c.POOLED_SIDE,
        "ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": c.SAMPLING_RATIO,
        "ROI_BOX_HEAD.NUM_CLASSES": c.CLASSES,
    } == {
        "INPUT.PIXEL_MEAN": (102.9801, 115.9465, 122.7717),
        "INPUT.MIN_SIZE_TEST": 800,
        "INPUT.MAX_SIZE_TEST": 1333,
        "RPN.ANCHOR_SIZES": (32, 64, 128, 256, 512),
        "RPN.ASPECT_RATIOS": (0.5, 1.0, 2.0),
        "RPN.ANCHOR_STRIDE": 16,
        "RPN.PRE_NMS_TOP_N_TEST": 6000,
        "RPN.POST_NMS_TOP_N_TEST": 1000,
        "RPN.NMS_THRESH": 0.7,
        "RPN.MIN_SIZE": 0,
        "ROI_HEADS.BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
        "ROI_HEADS.SCORE_THRESH": 0.05,
        "ROI_HEADS.NMS": 0.5,
        "ROI_HEADS.DETECTIONS_PER_IMG": 100,
        "ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
        "ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
        "ROI_BOX_HEAD.NUM_CLASSES": 81,
    }
