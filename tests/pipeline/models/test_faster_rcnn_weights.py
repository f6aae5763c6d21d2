"""Seeded weights and checkpoints of the detector."""

import pytest
import torch

from trtyard.core.errors import UsageError
from trtyard.core.files import sha256_of
from trtyard.pipeline.models.checkpoint import state_sha256
from trtyard.pipeline.models.faster_rcnn.anchors import cell_anchors
from trtyard.pipeline.models.faster_rcnn.network import FasterRCNN
from trtyard.pipeline.models.faster_rcnn.proposals import ImageShape
from trtyard.pipeline.models.faster_rcnn.seeded import seed_weights
from trtyard.pipeline.models.faster_rcnn.weights import ANCHORS_KEY, load_weights
from trtyard.pipeline.models.registry import load_model

SHAPE = ImageShape(1, 64, 64)

# Of the state seeded with 0. It changes with the recipe, and never with the machine.
SEED_0 = "0e14515da8319d5be6be957ebe95358f886b98671b6fd053d0638fa6154a994f"


@pytest.fixture(scope="module")
def seeded():
    network = FasterRCNN(SHAPE)
    seed_weights(network, 0)
    return network


def save(network, path, prefix="", anchors=None, **others):
    state = {prefix + key: value for key, value in network.state_dict().items()}
    if anchors is not None:
        state[prefix + ANCHORS_KEY] = anchors
    torch.save({"model": state, **others}, path)
    return str(path)


def test_seeded_weights_match_a_known_hash(seeded):
    assert state_sha256(seeded) == SEED_0


def test_another_seed_gives_other_weights_in_every_layer(seeded):
    other = FasterRCNN(SHAPE)
    seed_weights(other, 1)
    mine, theirs = seeded.state_dict(), other.state_dict()
    drawn = [key for key, value in mine.items() if value.dim() > 1]
    assert len(drawn) == 58
    assert not [key for key in drawn if torch.equal(mine[key], theirs[key])]


def test_seeding_overwrites_every_weight(seeded):
    network = FasterRCNN(SHAPE)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.fill_(7.0)
    seed_weights(network, 0)
    assert state_sha256(network) == state_sha256(seeded)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("with_anchors", [True, False])
def test_checkpoint_round_trip_is_exact(seeded, tmp_path, prefix, with_anchors):
    path = save(
        seeded,
        tmp_path / "checkpoint.pth",
        prefix,
        cell_anchors() if with_anchors else None,
        iteration=90000,
        optimizer={"state": {}, "param_groups": [{"lr": 0.02}]},
        scheduler={"last_epoch": 90000},
    )
    network = FasterRCNN(SHAPE)
    load_weights(network, path)
    assert state_sha256(network) == state_sha256(seeded)


def test_a_checkpoint_with_other_anchors_is_refused(seeded, tmp_path):
    for anchors in (cell_anchors() + 0.5, cell_anchors()[:12], cell_anchors().flip(0)):
        path = save(seeded, tmp_path / "checkpoint.pth", anchors=anchors)
        with pytest.raises(UsageError, match="trained with other anchors"):
            load_weights(FasterRCNN(SHAPE), path)


def test_checkpoint_of_another_network_is_refused(seeded, tmp_path):
    state = dict(seeded.state_dict())
    del state["rpn.head.conv.bias"]
    state["roi_heads.mask.predictor.conv5_mask.weight"] = torch.zeros(2)
    state["roi_heads.box.predictor.cls_score.weight"] = torch.zeros(91, 2048)
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": state}, path)
    with pytest.raises(UsageError) as caught:
        load_weights(FasterRCNN(SHAPE), str(path))
    words = caught.value.message
    assert "missing: rpn.head.conv.bias [1024]" in words
    assert "extra: roi_heads.mask.predictor.conv5_mask.weight [2]" in words
    assert "cls_score.weight is [91, 2048], not [81, 2048]" in words


def test_checkpoint_uses_the_published_default_size(seeded, tmp_path):
    path = save(seeded, tmp_path / "checkpoint.pth")
    model = load_model("faster_rcnn", weights=path)
    assert tuple(model.inputs[0].shape) == (1, 3, 800, 800)
    assert model.scale == (800 / 512, 800 / 512)
    assert model.weights.source == path
    assert model.weights.sha256 == sha256_of(tmp_path / "checkpoint.pth")
    assert state_sha256(model.module) == state_sha256(seeded)


def test_size_and_proposals_are_configurable(seeded):
    model = load_model("faster_rcnn", weights="seeded:0", size=96, top_n=7)
    assert tuple(model.inputs[0].shape) == (1, 3, 96, 96)
    assert model.module.rpn.top_n == 7
    assert model.weights.source == "seeded:0"
    assert model.weights.sha256 == state_sha256(seeded)
    assert not [each for each in model.module.parameters() if each.requires_grad]
