"""The static detector against the plain one: the same boxes, scores and labels, exactly."""

import functools
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch

from trtyard.pipeline.models.faster_rcnn import conventions as c
from trtyard.pipeline.models.faster_rcnn import detections
from trtyard.pipeline.models.faster_rcnn.network import FasterRCNN
from trtyard.pipeline.models.faster_rcnn.preprocess import network_input
from trtyard.pipeline.models.faster_rcnn.proposals import ImageShape
from trtyard.pipeline.models.faster_rcnn.reference import detect
from trtyard.pipeline.models.faster_rcnn.seeded import seed_weights
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.registry import load_model

PICTURES = Path(skimage.__file__).parent / "data"
TOP_N = 30


@functools.lru_cache(maxsize=1)
def seeded_state(seed):
    network = FasterRCNN(ImageShape(1, 64, 64))
    seed_weights(network, seed)
    return network.state_dict()


def made_network(images, seed=0, top_n=TOP_N, background=3.0):
    """Return a seeded network; less background gives more detections to compare."""
    network = FasterRCNN(ImageShape(len(images), *images.shape[2:]), top_n).eval()
    network.load_state_dict(seeded_state(seed))
    with torch.no_grad():
        network.roi_heads["box"].predictor.cls_score.bias[0] = background
    return network


def picture(name, shorter):
    return network_input(read_picture(str(PICTURES / name)).rgb, shorter)


def run(network, images):
    with torch.no_grad():
        return dict(zip(("boxes", "scores", "labels", "count", "proposals"), network(images)))


def check_padding(outputs):
    for image, count in enumerate(outputs["count"].tolist()):
        assert not outputs["boxes"][image, count:].any()
        assert not outputs["scores"][image, count:].any()
        assert not outputs["labels"][image, count:].any()
        assert (outputs["labels"][image, :count] >= 1).all()
        assert (outputs["labels"][image, :count] <= 80).all()


def check_same(outputs, expected):
    """Compare with a reference result for each image; return how many detections there were."""
    check_padding(outputs)
    for image, one in enumerate(expected):
        count = int(outputs["count"][image])
        assert count == len(one.scores)
        assert int(outputs["proposals"][image]) == len(one.proposals)
        assert outputs["labels"][image, :count].tolist() == one.labels.tolist()
        torch.testing.assert_close(outputs["boxes"][image, :count], one.boxes, rtol=0.0, atol=1e-3)
        torch.testing.assert_close(
            outputs["scores"][image, :count], one.scores, rtol=0.0, atol=1e-6
        )
    return sum(len(one.scores) for one in expected)


@pytest.mark.parametrize(
    ("name", "shorter", "seed"),
    [
        ("astronaut.png", 160, 0),
        ("astronaut.png", 131, 1),
        ("coffee.png", 97, 2),
        ("chelsea.png", 150, 3),
        ("rocket.jpg", 113, 4),
    ],
)
def test_pictures_of_odd_sizes_give_the_same_detections(name, shorter, seed):
    images = picture(name, shorter)
    network = made_network(images, seed)
    found = check_same(run(network, images), detect(network, images, TOP_N))
    assert found > 5


def test_batch_images_are_independent():
    images = picture("astronaut.png", 112)
    images = torch.cat((images, images.flip(-1), torch.zeros_like(images)))
    network = made_network(images)
    outputs = run(network, images)
    expected = detect(network, images, TOP_N)
    assert check_same(outputs, expected) > 10
    assert expected[0].labels.tolist() != expected[1].labels.tolist()


def proposals_of(network, images):
    with torch.no_grad():
        boxes, alive, _ = network.rpn(network.backbone(images))
    return boxes[0][alive[0]]


@pytest.mark.parametrize("width", [0, 96])
def test_equal_anchor_scores_are_ordered_by_index(width):
    # Beyond the reach of the photograph on its left the picture is plain, and all scores are 0.5.
    images = torch.zeros(1, 3, 96, 1200)
    images[..., :width] = picture("astronaut.png", 96)[..., :width]
    network = made_network(images, background=2.0)
    with torch.no_grad():
        logits = network.rpn.head(network.backbone(images))[0]
    assert (logits == 0).sum() > 2000
    assert network.rpn.candidates == 6000 < network.shape.anchors
    (expected,) = detect(network, images, TOP_N)
    assert torch.equal(proposals_of(network, images), expected.proposals)
    assert (check_same(run(network, images), [expected]) > 0) == (width > 0)


def test_many_anchors_use_the_split_topk():
    images = picture("astronaut.png", 384)  # 8640 anchors
    network = made_network(images)
    assert network.rpn.candidates == 6000 < network.shape.anchors
    assert check_same(run(network, images), detect(network, images, TOP_N)) > 10


@pytest.mark.slow
def test_few_anchors_limit_the_proposals():
    images = picture("astronaut.png", 64)  # 4 x 4 cells, 240 anchors
    network = made_network(images, top_n=1000)
    outputs = run(network, images)
    assert int(outputs["proposals"]) < network.rpn.top_n == 240
    assert check_same(outputs, detect(network, images, 1000)) > 10


@pytest.mark.slow
def test_padded_proposals_give_no_detections():
    images = picture("astronaut.png", 64)
    network = made_network(images, top_n=1000)
    predictor = network.roi_heads["box"].predictor
    with torch.no_grad():  # only from features of zeros does class 7 come out, and then surely
        predictor.cls_score.weight[7] = -1000.0
        predictor.cls_score.bias[7] = 50.0
    outputs = run(network, images)
    assert int(outputs["proposals"]) < network.rpn.top_n
    assert check_same(outputs, detect(network, images, 1000)) > 10
    assert 7 not in outputs["labels"]


def test_padded_proposals_are_marked_for_the_pooling(monkeypatch):
    images = picture("astronaut.png", 64)
    images = torch.cat((images, images.flip(-1)))
    network = made_network(images, top_n=1000)
    marks = []

    def note(features, rois, batch_indices, *attributes):
        marks.append(batch_indices.clone())
        return torch.zeros(len(rois), 2048, 7, 7)

    monkeypatch.setattr(detections, "roi_align", note)
    network.roi_heads["box"].feature_extractor = torch.nn.Identity()
    outputs = run(network, images)
    ours = torch.arange(network.rpn.top_n)
    for image, (row, alive) in enumerate(zip(marks[0].reshape(2, -1), outputs["proposals"])):
        assert row.tolist() == torch.where(ours < alive, image, -1).tolist()


def test_small_proposals_are_ignored(monkeypatch):
    images = picture("astronaut.png", 96)
    network = made_network(images)
    without = proposals_of(network, images)
    monkeypatch.setattr(c, "PROPOSAL_MINIMUM_SIDE", 60)  # the published 0 removes next to nothing
    (expected,) = detect(network, images, TOP_N)
    assert torch.equal(proposals_of(network, images), expected.proposals)
    assert (expected.proposals[:, 2:] - expected.proposals[:, :2] + 1).min() >= 60
    assert (without[:, 2:] - without[:, :2] + 1).min() < 60


def test_at_most_100_detections_are_kept():
    images = picture("astronaut.png", 160)
    network = made_network(images, background=-5.0, top_n=80)
    outputs = run(network, images)
    assert int(outputs["count"]) == 100
    check_same(outputs, detect(network, images, 80))


def test_equal_scores_are_ordered_by_label_and_proposal():
    images = picture("astronaut.png", 96)
    network = made_network(images, top_n=30)
    with torch.no_grad():
        network.roi_heads["box"].predictor.cls_score.weight.zero_()
        network.roi_heads["box"].predictor.cls_score.bias.zero_()
        network.roi_heads["box"].predictor.cls_score.bias[[9, 4, 30]] = 3.0
    outputs = run(network, images)
    assert check_same(outputs, detect(network, images, 30)) > 3
    labels = outputs["labels"][0, : int(outputs["count"])].tolist()
    assert labels == sorted(labels)
    assert set(labels) == {4, 9, 30}


def test_no_detections_give_only_zeros():
    images = picture("astronaut.png", 96)
    network = made_network(images, background=100.0)
    outputs = run(network, images)
    assert outputs["count"].tolist() == [0]
    assert check_same(outputs, detect(network, images, TOP_N)) == 0


def test_scores_of_exactly_the_threshold_are_not_kept():
    images = picture("astronaut.png", 96)
    network = made_network(images, top_n=30)
    predictor = network.roi_heads["box"].predictor
    with torch.no_grad():
        predictor.cls_score.weight.zero_()
        predictor.cls_score.bias.fill_(-200.0)
        predictor.cls_score.bias[:20] = 0.0  # 20 classes of exactly 0.05
    assert torch.softmax(predictor.cls_score.bias, 0)[1].item() == np.float32(c.SCORE_THRESHOLD)
    assert run(network, images)["count"].tolist() == [0]
    assert len(detect(network, images, 30)[0].scores) == 0


def test_boxes_are_inside_the_picture_and_sorted_by_score():
    images = picture("rocket.jpg", 113)
    outputs = run(made_network(images), images)
    count = int(outputs["count"])
    boxes, scores = outputs["boxes"][0, :count], outputs["scores"][0, :count]
    height, width = images.shape[2:]
    assert boxes.min() >= 0
    assert (boxes[:, 2] <= width - 1).all()
    assert (boxes[:, 3] <= height - 1).all()
    assert (scores[:-1] >= scores[1:]).all()
    assert (scores > c.SCORE_THRESHOLD).all()


def test_images_of_another_shape_are_refused():
    network = FasterRCNN(ImageShape(1, 64, 96), 10).eval()
    for shape in ((1, 3, 96, 64), (2, 3, 64, 96), (1, 3, 64, 97)):
        with pytest.raises(ValueError, match=r"not \[1, 3, 64, 96\]"):
            network(torch.zeros(shape))


# What no static graph has, or what a TensorRT without a driver cannot build.
FORBIDDEN = ("nonzero", "masked_select", "index_put", "aten.index.Tensor", "sort", "nms.", ".item")


def test_the_exported_graph_is_static_and_holds_the_custom_ops():
    images = torch.zeros(1, 3, 400, 300)
    network = FasterRCNN(ImageShape(1, 400, 300), 20).eval()
    exported = torch.export.export(network, (images,))
    targets = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert sum("trtyard.padded_nms" in target for target in targets) == 2
    assert sum("trtyard.roi_align" in target for target in targets) == 1
    others = [target for target in targets if "trtyard" not in target]
    assert not [target for target in others if any(word in target for word in FORBIDDEN)]
    for node in exported.graph.nodes:
        for value in torch.utils._pytree.tree_leaves(node.meta.get("val")):
            assert all(isinstance(size, int) for size in getattr(value, "shape", ()))


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning")
def test_tracing_freezes_no_value_of_the_input():
    images = picture("astronaut.png", 96)
    network = made_network(images, top_n=20)
    with torch.no_grad():
        traced = torch.jit.trace(network, images.flip(-1), check_trace=False)
        for mine, theirs in zip(network(images), traced(images)):
            torch.testing.assert_close(mine, theirs, rtol=0.0, atol=1e-4)


@pytest.mark.slow
def test_the_shipped_photograph_at_the_default_size():
    model = load_model("faster_rcnn")
    assert model.kind == "detector"
    assert model.input_names == ("images",)
    assert model.output_names == ("boxes", "scores", "labels", "count", "proposals")
    assert tuple(model.inputs[0].shape) == (1, 3, 512, 512)
    assert model.scale == (1.0, 1.0)
    outputs = run(model.module, model.inputs[0])
    assert model.proposal_rows == 300
    found = check_same(outputs, detect(model.module, model.inputs[0], top_n=300))
    assert 20 <= found < 100  # not cut off, so that no near-tie decides which are shown
    assert len(outputs["labels"][0, :found].unique()) >= 10
    boxes = outputs["boxes"][0, :found]
    sides = (boxes[:, 2:] - boxes[:, :2] + 1).prod(dim=1).sqrt()
    assert sides.max() / sides.min() > 3


def test_where_inputs_have_one_rank(monkeypatch):
    # TensorRT 7.0's parser asserts it: importWhere compares the three ranks.
    ranks, where = [], torch.where

    def note(*tensors):
        ranks.append([tensor.dim() for tensor in tensors])
        return where(*tensors)

    images = picture("coffee.png", 384)  # more anchors than candidates, so that it has to choose
    network = made_network(images)
    assert network.rpn.candidates < ImageShape(1, *images.shape[2:]).anchors
    monkeypatch.setattr(torch, "where", note)
    run(network, images)
    assert len(ranks) > 8
    assert [one for one in ranks if len(set(one)) > 1] == []
