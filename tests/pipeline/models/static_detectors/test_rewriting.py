"""Functions of torchvision that are replaced during an export."""

import pytest
from torchvision.models.detection import transform
from torchvision.models.detection.retinanet import RetinaNet

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.static_detectors import rewriting
from trtyard.pipeline.models.static_detectors.forms import FORMS
from trtyard.pipeline.models.static_detectors.rewriting import (
    Rewrite,
    refuse_unknown,
    rewritten,
    source_hash,
    torchvision_release,
)

FUNCTION = "torchvision.models.detection.transform.resize_boxes"
METHOD = "torchvision.models.detection.retinanet.RetinaNet.postprocess_detections"
HERE = torchvision_release()


def replacement(*_):
    return "replaced"


def known(name):
    return Rewrite(name, {HERE: source_hash(name)}, replacement)


def test_function_and_method_are_replaced_inside_the_block():
    before = transform.resize_boxes, vars(RetinaNet)["postprocess_detections"]
    with rewritten([known(FUNCTION), known(METHOD)]):
        assert transform.resize_boxes(None, None, None) == "replaced"
        assert RetinaNet.postprocess_detections(None, None, None, None) == "replaced"
    assert (transform.resize_boxes, vars(RetinaNet)["postprocess_detections"]) == before


def test_error_inside_the_block_restores_functions():
    before = transform.resize_boxes
    with pytest.raises(ValueError, match="inside"), rewritten([known(FUNCTION)]):
        raise ValueError("inside")
    assert transform.resize_boxes is before


def test_known_source_is_accepted():
    refuse_unknown([known(FUNCTION), known(METHOD)])


def test_other_source_is_refused():
    other = Rewrite(FUNCTION, {HERE: "0" * 12}, replacement)
    with pytest.raises(UsageError, match="resize_boxes has another source") as caught:
        refuse_unknown([other])
    assert "--detections dynamic" in caught.value.hint


def test_changed_function_is_refused(monkeypatch):
    rewrites = [known(FUNCTION)]

    def resize_boxes(boxes, original_size, new_size):
        return boxes

    monkeypatch.setattr(transform, "resize_boxes", resize_boxes)
    with pytest.raises(UsageError, match="has another source"):
        refuse_unknown(rewrites)


def test_unknown_release_is_refused(monkeypatch):
    monkeypatch.setattr(rewriting.torchvision, "__version__", "0.99.1+cpu")
    with pytest.raises(UsageError, match=r"no replacement for torchvision 0\.99") as caught:
        refuse_unknown([known(FUNCTION)._replace(sources={"0.28": "0" * 12})])
    assert "there is one for 0.28" in caught.value.message


@pytest.mark.parametrize("name", [FUNCTION + "_2", "torchvision.nothing.Here.forward", "no.such"])
def test_missing_function_is_refused(name):
    with pytest.raises(UsageError, match="cannot be read"):
        refuse_unknown([Rewrite(name, {HERE: "0" * 12}, replacement)])


@pytest.mark.parametrize("detector", sorted(FORMS))
def test_every_replacement_knows_the_installed_release(detector):
    refuse_unknown(FORMS[detector][HERE])
