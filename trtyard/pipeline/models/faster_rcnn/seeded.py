"""Random weights with which the untrained detector behaves like a trained one.

Layers draw from ``seeding.Seed``, which keeps the mean square of activations. The constants below
were found by trying seeds on photographs, and tests check their effect:

- the first norm divides by the size of its input, which is 0..255 minus the means;
- the last norm of each residual block is small, because sixteen sums would make features explode;
- the heads' gains spread objectness, class logits and box deltas about as far as trained ones;
- the background's bias leaves some dozens of detections in a photograph.
"""

import math

import torch
from torch import nn

from trtyard.pipeline.models.faster_rcnn import conventions as c
from trtyard.pipeline.models.faster_rcnn.network import FasterRCNN
from trtyard.pipeline.models.faster_rcnn.resnet import FrozenBatchNorm
from trtyard.pipeline.models.seeding import Seed

STEM_DEVIATION = 40.0  # approximate, of the first norm's input
RESIDUAL_SCALE = 0.5
OBJECTNESS_GAIN = 6.0
PROPOSAL_GAIN = 0.4
CLASS_GAIN = 8.0
BOX_GAIN = 6.0
BACKGROUND_BIAS = 9.0
# Small proposals vary most and have the highest scores. This doubles every side (5 log 2), which
# gives detections of many sizes.
SIDE_BIAS = 3.5


def seed_weights(network: FasterRCNN, seed: int) -> None:
    """Overwrite all weights of ``network``; the same on every machine for the same seed."""
    draw = Seed(seed)
    with torch.no_grad():
        _seed_stem(network.backbone.body.stem, draw)
        stages = network.backbone.body, network.roi_heads["box"].feature_extractor
        for name, module in [pair for stage in stages for pair in stage.named_modules()]:
            if name.startswith("stem."):
                continue
            if isinstance(module, nn.Conv2d):
                module.weight.copy_(draw.weights(module.weight.shape, centered=True))
            elif isinstance(module, FrozenBatchNorm):
                _set_norm(module, RESIDUAL_SCALE if name.endswith(".bn3") else 1.0, 1.0)
        head, predictor = network.rpn.head, network.roi_heads["box"].predictor
        for layer, gain in (
            (head.conv, math.sqrt(2.0)),
            (head.cls_logits, OBJECTNESS_GAIN),
            (head.bbox_pred, PROPOSAL_GAIN),
            (predictor.cls_score, CLASS_GAIN),
            (predictor.bbox_pred, BOX_GAIN),
        ):
            layer.weight.copy_(draw.weights(layer.weight.shape, gain, centered=True))
            layer.bias.zero_()
        predictor.cls_score.bias[0] = BACKGROUND_BIAS
        predictor.bbox_pred.bias.view(c.CLASSES, 4)[:, 2:] = SIDE_BIAS


def _seed_stem(stem: nn.Module, draw: Seed) -> None:
    """Make each colour plane of each filter sum to zero, so that plain areas give zero.

    Otherwise all later activations would depend on the few colours of one picture.
    """
    shape = stem.conv1.weight.shape
    planes = (shape[0] * shape[1], 1, *shape[2:])
    gain = math.sqrt(2.0 / shape[1])  # three planes are added
    stem.conv1.weight.copy_(draw.weights(planes, gain, centered=True).reshape(shape))
    _set_norm(stem.bn1, 1.0, STEM_DEVIATION**2)


def _set_norm(norm: FrozenBatchNorm, scale: float, variance: float) -> None:
    norm.weight.fill_(scale)
    norm.bias.zero_()
    norm.running_mean.zero_()
    norm.running_var.fill_(variance)
