"""Small models whose export differs from PyTorch, each by a fault that raises no error."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import avg_pool1d, interpolate, leaky_relu, softplus


def exporting() -> bool:
    """Tell whether an exporter runs the model."""
    is_exporting: Any = getattr(getattr(torch, "compiler", None), "is_exporting", bool)
    return bool(torch.onnx.is_in_onnx_export() or is_exporting())


class Detector(nn.Module):
    """A detector's head; ``faults`` names what its export loses."""

    def __init__(self, faults: str = "") -> None:
        super().__init__()
        self.faults = faults.split()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.mid = nn.Conv2d(8, 8, 3, padding=1)
        self.reg = nn.Conv2d(8, 4, 1)
        self.cls = nn.Conv2d(8, 3, 1)
        self.register_buffer("anchors", torch.rand(64, 4) * 16)

    def has(self, fault: str) -> bool:
        return fault in self.faults and exporting()

    def forward(self, x: torch.Tensor) -> Any:
        f = torch.relu(self.norm(self.stem(x)))
        scale = torch.tensor(0.37) if self.has("constant") else f.mean()  # constant
        f = torch.tanh(self.mid(f)) * (scale + 1)
        deltas = self.reg(f).flatten(2).transpose(1, 2) * 8
        boxes = torch.zeros_like(deltas)
        if not self.has("slice"):
            boxes[..., 0::2] = deltas[..., 0::2] + self.anchors[:, 0::2]  # slice
        boxes[..., 1::2] = deltas[..., 1::2] * 2
        if not self.has("clamp"):
            boxes[..., 0].clamp_(min=0, max=15)  # clamp
        if not self.has("sigmoid"):
            f = torch.sigmoid(f)  # sigmoid
        return boxes * 1.5, self.cls(f).flatten(2).softmax(1)


class Item(nn.Module):
    """The TorchScript exporter writes the value of ``float()`` into the file."""

    def __init__(self) -> None:
        super().__init__()
        self.mid = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mid(x * float(x.mean()))  # item


class Ops(nn.Module):
    """Nodes with attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = leaky_relu(self.first(x), 0.1)
        x = interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        x = torch.softmax(self.second(x), 1)
        return self.last(x.mean((2, 3)))


class Thirty(nn.Module):
    """Thirty layers; the values of one of them are beyond float16's range."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(30))
        with torch.no_grad():
            self.layers[17].weight.mul_(1e6)
            self.layers[18].weight.mul_(1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x) if number == 17 else torch.tanh(layer(x)) * 2
        return x


class Indexed(nn.Module):
    """Indices that the TorchScript exporter writes as something else."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> Any:
        rows = self.first(x)[:, :, 0]
        repeated = torch.tensor([0, 2, 2])
        put = torch.zeros(3, 16).index_put((repeated,), rows[0], accumulate=True)  # put
        added = rows.index_add(1, repeated, rows * 2)  # added
        taken = rows[0][torch.tensor([0, 1]), torch.tensor([2, -1])]  # taken
        return torch.tanh(put), torch.tanh(added), torch.tanh(taken)


class Rounded(nn.Module):
    """Arithmetic that the TorchScript exporter writes as something else."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> Any:
        rows = self.first(x)[:, :, 0]
        whole = (rows * 10).to(torch.int64)
        divided = whole // -3  # divided
        shifted = whole >> 1  # shifted
        smooth = softplus(rows, beta=3, threshold=1)  # smooth
        pooled = avg_pool1d(rows, 3, 2, 1, ceil_mode=True)  # pooled
        return divided * 2, shifted * 2, torch.tanh(smooth), torch.tanh(pooled)


class Mean(nn.Module):
    """The dynamo exporter leaves out the mean."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        index = torch.zeros(x.shape, dtype=torch.int64)
        return torch.tanh(torch.ones_like(x).scatter_reduce(1, index, x, "mean"))


class Tied(nn.Module):
    """A choice among equal values, and a node with an attribute."""

    def forward(self, x: torch.Tensor) -> Any:
        chosen = torch.topk(torch.sign(x.flatten(1)), 9)[1]
        return torch.tanh(chosen * 0.01), torch.tanh(leaky_relu(x, 0.1))


def tied() -> nn.Module:
    return Tied()


def indexed() -> nn.Module:
    return Indexed()


def rounded() -> nn.Module:
    return Rounded()


def mean() -> nn.Module:
    return Mean()


def detector(faults: str = "") -> nn.Module:
    return Detector(faults)


def item() -> nn.Module:
    return Item()


def ops() -> nn.Module:
    return Ops()


def thirty() -> nn.Module:
    return Thirty()
