"""From the words after --model, --weights and the rest to a model, or to a helpful refusal."""

import pytest
import torchvision
from torchvision.models import detection

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.core.known_models import KINDS
from trtyard.pipeline.models import classifier, segmenter, torchvision_detector
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.models.weights import Choice, choose


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("alexnt", "alexnet"),
        ("AlexNet", "alexnet"),
        ("faster-rcnn", "faster_rcnn"),
        ("fasterrcnn_resnet50_fp", "fasterrcnn_resnet50_fpn"),
        ("deeplab_resnet50", "deeplabv3_resnet50"),
        ("resnet-50", "resnet50"),
        ("vit_b16", "vit_b_16"),
    ],
)
def test_an_unknown_model_is_answered_with_the_nearest_names(typed, nearest):
    with pytest.raises(UsageError, match=f"unknown model '{typed}'; similar names: .*{nearest}"):
        load_model(typed)


@pytest.mark.parametrize("typed", ["", "zzzz", "q" * 300])
def test_unknown_model_error_lists_models(typed):
    with pytest.raises(UsageError, match=r"known are faster_rcnn and .* of torchvision") as caught:
        load_model(typed)
    assert "file.py:callable" in caught.value.hint


def test_model_that_this_torchvision_lacks_is_named(monkeypatch):
    older = {name: one for name, one in vars(detection).items() if not name.startswith("retina")}
    monkeypatch.setattr(torchvision.models, "list_models", lambda module: sorted(older))
    with pytest.raises(UsageError, match="has no retinanet_resnet50_fpn;") as caught:
        load_model("retinanet_resnet50_fpn")
    assert "of its kind it has: fasterrcnn_mobilenet_v3_large_320_fpn, " in caught.value.message
    assert "newer torchvision" in caught.value.hint


@pytest.mark.parametrize("option", ["dynamic", "padded"])
@pytest.mark.parametrize("spec", ["alexnet", "fcn_resnet50", "faster_rcnn"])
def test_detections_are_an_option_of_torchvisions_detectors(spec, option):
    with pytest.raises(UsageError, match=f"--detections is not for {spec}"):
        load_model(spec, detections=option)


@pytest.mark.parametrize(
    ("spec", "option", "value"),
    [
        ("ssd300_vgg16", "input_shape", "1x3x224x224"),
        ("alexnet", "top_n", 5),
        ("fasterrcnn_resnet50_fpn", "input_shape", "1x3x224x224"),
        ("nets.py:make", "size", 224),
        ("nets.py:make", "top_n", 5),
    ],
)
def test_option_unused_by_the_model_is_refused(spec, option, value):
    words = {"input_shape": "--input", "top_n": "--top-n"}.get(option, f"--{option}")
    with pytest.raises(UsageError, match=f"{words} is not for {spec}"):
        load_model(spec, **{option: value})


@pytest.mark.parametrize(
    "options",
    [
        {"size": 63},
        {"size": 1334},
        {"size": -1},
        {"top_n": 0},
        {"top_n": -3},
        {"top_n": 6001},
        {"image": "none.png"},
        {"weights": "none.pth"},
    ],
)
def test_detector_refuses_unsupported_options(options):
    with pytest.raises(UsageError):
        load_model("faster_rcnn", **options)


def test_weights_are_a_seed_or_a_file():
    assert choose("seeded") == Choice(None, 0)
    assert choose("seeded:17") == Choice(None, 17)
    assert choose("some/weights.pth") == Choice("some/weights.pth", 0)
    for text in ("seeded:", "seeded:x", "seeded:-1", "seeded:1.5", f"seeded:{2**63}", "seeded:1\n"):
        with pytest.raises(UsageError, match="the seed is a whole number"):
            choose(text)


def test_weights_path_may_end_with_a_key(tmp_path):
    assert choose("some/weights.pth#params_ema") == Choice("some/weights.pth", 0, "params_ema")
    named = tmp_path / "a#b.pth"
    named.write_bytes(b"")
    assert choose(str(named)) == Choice(str(named), 0)
    assert choose(f"{named}#ema.module") == Choice(str(named), 0, "ema.module")


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("alexnet", {}, "--norm-eps is not for alexnet"),
        ("fcn_resnet50", {}, "--norm-eps is not for fcn_resnet50"),
        ("faster_rcnn", {}, "--norm-eps is not for faster_rcnn"),
        ("net.py:make", {"input_shape": "1x3"}, "--norm-eps is not for net.py:make"),
        ("ssd300_vgg16", {}, "--norm-eps is not for seeded weights"),
    ],
)
def test_an_epsilon_of_norms_is_for_the_checkpoints_of_detectors(model, options, words):
    with pytest.raises(UsageError, match=words):
        load_model(model, norm_epsilon=1e-5, **options)


def test_unpinned_pretrained_weights_get_a_hint():
    with pytest.raises(EnvironmentLacksError, match="the file was not downloaded") as caught:
        load_model("alexnet", weights="pretrained")
    assert "--weights FILE" in caught.value.hint
    assert caught.value.exit_code == 3


def test_names_known_without_torch_are_torchvisions():
    assert list(KINDS["classifier"].names) == classifier.classifier_names()
    assert list(KINDS["segmenter"].names) == segmenter.segmenter_names()
    assert list(KINDS["detector"].names) == torchvision_detector.detector_names()


@pytest.mark.parametrize("kind", KINDS)
def test_sides_without_torch_match_the_models(kind):
    one = KINDS[kind]
    for side in (one.smallest - 1, one.largest + 1):
        with pytest.raises(UsageError, match=f"supports {one.smallest} to {one.largest} pixels"):
            load_model(one.names[0], size=side)
