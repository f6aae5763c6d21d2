"""Fails in one of the ways that torch 1.4 has. Run by test_known_failures.py in row 7.0's Python.

Knows nothing of trtyard: what it prints is what anybody's terminal would show.
"""

import io
import sys
from pathlib import Path

import torch
import torchvision
from torch import nn


class BoxList:
    """A result of a class of its own."""

    def __init__(self, boxes):
        self.boxes = boxes


class OwnClass(nn.Module):
    def forward(self, boxes):
        return [BoxList(boxes)]


class _ROIAlign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features):
        return features * 2


class Function(nn.Module):
    def forward(self, features):
        return _ROIAlign.apply(features) + 1


class Nms(nn.Module):
    def forward(self, boxes):
        return torchvision.ops.nms(boxes, boxes[:, 0], 0.5)


class Inverse(nn.Module):
    def forward(self, matrix):
        return torch.inverse(matrix + torch.eye(4) * 100)


class Histogram(nn.Module):
    def forward(self, matrix):
        return torch.histc(matrix)


class AsTensor(nn.Module):
    def forward(self, boxes):
        return boxes + torch.as_tensor(boxes.tolist())


class Branch(nn.Module):
    def forward(self, boxes):
        return boxes * 2 if boxes.sum() > 0 else boxes


class SliceAssignment(nn.Module):
    def forward(self, boxes):
        moved = torch.zeros(4, 4)
        moved[:, 0::2] = boxes[:, 0::2] + 1
        moved[:, 1::2] = boxes[:, 1::2] + 1
        return moved


class Clamp(nn.Module):
    def forward(self, boxes):
        boxes = boxes * 100
        boxes[:, 0].clamp_(min=0, max=1)
        return boxes


class Upsample(nn.Module):
    def forward(self, image):
        return nn.functional.interpolate(
            image[None, None], size=(8, 8), mode="bilinear", align_corners=False
        )


class UpsampleToCorners(nn.Module):
    def forward(self, image):
        return nn.functional.interpolate(
            image[None, None], size=(8, 8), mode="bilinear", align_corners=True
        )


class Pool(nn.Module):
    def forward(self, image):
        return nn.functional.avg_pool2d(image[None, None], image.shape)


class Topk(nn.Module):
    def forward(self, scores):
        return scores.topk(2, dim=1)


class Arange(nn.Module):
    def forward(self, scores):
        return torch.arange(scores.shape[1]) * scores.long()


MODULES = {
    one.__name__: one
    for one in (
        OwnClass,
        Function,
        Nms,
        Inverse,
        Histogram,
        AsTensor,
        Branch,
        SliceAssignment,
        Clamp,
        Upsample,
        UpsampleToCorners,
        Pool,
        Topk,
        Arange,
    )
}

if __name__ == "__main__":
    name, opset, file = sys.argv[1:]
    written = io.BytesIO()
    module = MODULES[name]().eval()
    torch.onnx.export(
        module,
        torch.arange(16.0).reshape(4, 4) - 4,
        written,
        opset_version=int(opset),
        input_names=["x"],
        output_names=["y"],
    )
    Path(file).write_bytes(written.getvalue())
