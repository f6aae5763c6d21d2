"""Compare operators that torch 2.2 exports wrong with PyTorch, in the row's ONNX Runtime.

Run with the row's Python. Prints how many cases agree, and the first that does not.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.onnx_model.runner import run_onnx

OPSETS = (16, 17)
SPECIAL = torch.tensor([[0.0, -0.0, 1e-30, -1e-30, 88.0, -88.0, 1e4, -1e4, float("inf")]])


class Call(nn.Module):
    """Calls a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def softplus_cases(draw):
    values = torch.cat([torch.randn(8, 9, generator=draw) * 8, SPECIAL])
    for beta in (1, 0.5, 3, -2.0):
        for threshold in (20, 1, 0, -1.5, 19.99, 25.5):
            yield lambda x, b=beta, t=threshold: functional.softplus(x, b, t), (values,)
    yield functional.softplus, (values,)
    yield functional.softplus, (values[0, 0],)  # no dimension
    yield lambda x: functional.softplus(x, 3, 1), (values[:, :, None],)


def shift_cases(draw):
    for dtype in (torch.int64, torch.int32):
        limits = torch.iinfo(dtype)
        edges = [limits.min, limits.min + 1, -4, -3, -2, -1, 0, 1, 2, 3, limits.max]
        small = torch.randint(-1000, 1000, (53,), generator=draw)
        values = torch.cat([torch.tensor(edges), small]).to(dtype)
        for places in (0, 1, 3, limits.bits - 2, limits.bits - 1, limits.bits, 200, -1):
            yield lambda x, n=places: x >> n, (values,)
        several = torch.randint(-2, limits.bits + 3, values.shape, generator=draw).to(dtype)
        yield lambda x, n: x >> n, (values, several)
    yield lambda x: x >> 2, (torch.arange(256).to(torch.uint8),)


def sum_cases(draw):
    for dtype in (torch.float32, torch.int64):
        values = (torch.randn(5, 6, 4, generator=draw) * 9).to(dtype)
        for dim in (0, 1, 2):
            for count in (1, values.shape[dim]):
                index = torch.randint(0, values.shape[dim], (count,), generator=draw)
                new = values.index_select(dim, index) * 2
                yield lambda x, i, y, d=dim: x.index_add(d, i, y), (values, index, new)
        zeros = torch.zeros(3, dtype=torch.int64)
        yield lambda x, i: x.index_add(0, i, x[:3]), (values, zeros)
        rows = torch.randint(0, 5, (7,), generator=draw)
        columns = torch.randint(0, 6, (7,), generator=draw)
        many = (torch.randn(7, 6, 4, generator=draw) * 9).to(dtype)
        for accumulate in (True, False):
            # Without a sum the order of equal indices is open: here there are none.
            first = rows if accumulate else torch.tensor([4, 0, 3, 1, 2])

            def put(x, i, y, add=accumulate):
                return x.index_put((i,), y, accumulate=add)

            yield put, (values, first, many[: len(first)])
            yield put, (values, first - 5, many[: len(first)])  # negative indices
        yield (
            lambda x, i, j, y: x.index_put((i, j), y, accumulate=True),
            (values, rows, columns, many[:, 0]),
        )
        mask, one = values > 0, torch.tensor(3, dtype=dtype)
        yield lambda x, m, y: x.index_put((m,), y, accumulate=True), (values, mask, one)
        yield lambda x, m: x.index_put((m,), x[m] * 2, accumulate=True), (values, mask)


def agree(function, inputs, opset, folder):
    names = [f"x{number}" for number in range(len(inputs))]
    file = folder / "model.onnx"
    export_onnx(Call(function).eval(), inputs, names, ["y"], "torchscript", opset, file)
    given = {name: value.numpy() for name, value in zip(names, inputs)}
    found = run_onnx(file, given, ["y"])["y"]
    expected = function(*inputs).numpy()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def main():
    makers = {"softplus": softplus_cases, "shift": shift_cases, "sum": sum_cases}
    count = 0
    with tempfile.TemporaryDirectory() as name:
        for opset in OPSETS:
            for number, (function, inputs) in enumerate(
                makers[sys.argv[1]](torch.Generator().manual_seed(0))
            ):
                try:
                    agree(function, inputs, opset, Path(name))
                except Exception as error:
                    sys.exit(f"case {number}, opset {opset}: {error}")
                count += 1
    sys.stdout.write(f"{count} cases agree\n")


if __name__ == "__main__":
    main()
