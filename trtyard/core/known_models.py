"""Check ``--model`` and ``--size`` without importing PyTorch.

The command line uses this to reject a misspelt name at once. A test compares the names with
torchvision's. Older rows lack some of them; the pipeline reports that.
"""

import difflib
import re
import shlex
from typing import List, NamedTuple, Optional, Sequence, Tuple

from trtyard.core.errors import UsageError
from trtyard.core.model_call import read_call
from trtyard.core.onnx_files import is_onnx_file

FASTER_RCNN = "faster_rcnn"

_CLASSIFIERS = """
alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161
densenet169 densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3
efficientnet_b4 efficientnet_b5 efficientnet_b6 efficientnet_b7 efficientnet_v2_l
efficientnet_v2_m efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5 mnasnet0_75
mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small regnet_x_16gf
regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf
regnet_y_128gf regnet_y_16gf regnet_y_1_6gf regnet_y_32gf regnet_y_3_2gf regnet_y_400mf
regnet_y_800mf regnet_y_8gf resnet101 resnet152 resnet18 resnet34 resnet50 resnext101_32x8d
resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5
shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t swin_v2_b swin_v2_s
swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32
vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2 wide_resnet50_2
"""
_SEGMENTERS = """
deeplabv3_mobilenet_v3_large deeplabv3_resnet101 deeplabv3_resnet50 fcn_resnet101 fcn_resnet50
lraspp_mobilenet_v3_large
"""
_DETECTORS = """
fasterrcnn_mobilenet_v3_large_320_fpn fasterrcnn_mobilenet_v3_large_fpn fasterrcnn_resnet50_fpn
fasterrcnn_resnet50_fpn_v2 fcos_resnet50_fpn keypointrcnn_resnet50_fpn maskrcnn_resnet50_fpn
maskrcnn_resnet50_fpn_v2 retinanet_resnet50_fpn retinanet_resnet50_fpn_v2 ssd300_vgg16
ssdlite320_mobilenet_v3_large
"""
# Files that convert cannot use as a model: what they are, and the right command.
_FILES = (
    (
        (".pt", ".pth", ".ckpt", ".bin", ".safetensors"),
        "a weights file",
        "give the model too: --model NAME --weights {}",
    ),
    (
        (".engine", ".plan", ".trt"),
        "an engine, the output of convert",
        "give the model that it was built from: --model nets.py:make_net",
    ),
    ((".py",), "a file without a callable", "--model {}:make_net"),
)


class Kind(NamedTuple):
    """Models with the same options."""

    names: Tuple[str, ...]
    smallest: int  # side of the network's input, in pixels
    largest: int


KINDS = {
    FASTER_RCNN: Kind((FASTER_RCNN,), 64, 1333),
    "classifier": Kind(tuple(_CLASSIFIERS.split()), 1, 2048),
    "segmenter": Kind(tuple(_SEGMENTERS.split()), 32, 2048),
    "detector": Kind(tuple(_DETECTORS.split()), 64, 1333),
}


def is_known(spec: str) -> bool:
    """Tell whether ``spec`` is the name of one of trtyard's models."""
    return any(spec in one.names for one in KINDS.values())


def refuse_impossible(spec: str, size: Optional[int] = None) -> None:
    """Raise ``UsageError`` for a model that no row has, or a size that it does not support.

    Args:
        spec: the value of ``--model``.
        size: the value of ``--size``.
    """
    kind = next((one for one in KINDS.values() if spec in one.names), None)
    if kind is not None:
        if size is not None and not kind.smallest <= size <= kind.largest:
            raise UsageError(
                f"--size {size}: {spec} supports {kind.smallest} to {kind.largest} pixels",
                f"--size {max(kind.smallest, min(kind.largest, size))}",
            )
        return
    if is_onnx_file(spec):
        return
    for endings, what, instead in _FILES:
        if spec.lower().endswith(endings):
            raise UsageError(
                f"--model {spec}: this is {what}; convert needs a PyTorch model or an ONNX file",
                instead.format(spec),
            )
    _refuse_arguments(spec)
    if ":" not in spec:
        raise unknown(spec, [name for one in KINDS.values() for name in one.names])
    read_call(spec)


def _refuse_arguments(spec: str) -> None:
    """Raise ``UsageError`` for arguments of a model that is given by name."""
    found = re.match(r"(\w+)\s*\(", spec)
    if found is None or not is_known(found.group(1)):
        return
    hint = "write a function that makes the model, and give it: --model nets.py:make_net"
    if found.group(1) in KINDS["classifier"].names:
        own = shlex.quote(f"torchvision.models:{spec}")
        hint = f"call torchvision's function: --model {own} --input 1x3x224x224"
    raise UsageError(
        f"--model {spec}: {found.group(1)} is a name, and only a callable takes arguments", hint
    )


def unknown(spec: str, names: Sequence[str]) -> UsageError:
    """Return the error for a model name that is not in ``names``."""
    near: List[str] = difflib.get_close_matches(
        spec.lower().replace("-", "_"), names, n=3, cutoff=0.5
    )
    own = "your own model: --model package.module:callable, file.py:callable or FILE.onnx"
    if near:
        return UsageError(
            f"unknown model '{spec}'; similar names: {', '.join(near)}",
            f"--model {near[0]}, or {own}",
        )
    return UsageError(
        f"unknown model '{spec}'; known are {FASTER_RCNN} and {len(names) - 1} image models of "
        "torchvision: alexnet, resnet50, vit_b_16, deeplabv3_resnet50, ...",
        f"--model {FASTER_RCNN}, or {own}",
    )
