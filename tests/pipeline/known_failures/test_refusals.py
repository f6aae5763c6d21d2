"""What an exporter or TensorRT refuses is told with op, node, the user's line, cause and fix."""

import inspect
import re

import pytest
import torch
from torch import nn
from torch.ao import quantization
from torch.nn import functional

from trtyard.core.errors import ConversionError
from trtyard.core.toolchains import Toolchain
from trtyard.known_failures.advice import with_advice
from trtyard.known_failures.explanation import explain
from trtyard.pipeline.conversion import Conversion, PluginSource
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models.model import Model, Weights
from trtyard.pipeline.row import Row

ROW = Row("rtx-1.7", "1.7.1.116", "rtx", "dynamo", 18, "13.0", ("89",), ("8.9",))
RTX = Toolchain("rtx-1.7", "rtx", "1.7.1.116", "2.13.0", "dynamo", 18, ("8.9",))
FULL = Toolchain("10.16", "full", "10.16.1.11", "2.12.0", "dynamo", 18, ("8.9",))
INDEX = torch.tensor([0, 2, 2, 4])


class ScatterAdd(nn.Module):
    def forward(self, x, index):
        return torch.zeros(5, 4).scatter_add(0, index[:, None].expand(-1, 4), x)


class IndexAdd(nn.Module):
    def forward(self, x, index):
        return torch.zeros(5, 4).index_add(0, index, x)


class OneHotSum(nn.Module):
    def forward(self, x, index):
        return (index[None] == torch.arange(5)[:, None]).float() @ x


class Fold(nn.Module):
    def forward(self, x):
        return functional.fold(functional.unfold(x, 3, padding=1), x.shape[-2:], 3, padding=1)


class FoldByConvolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("eye", torch.eye(27).reshape(27, 3, 3, 3))

    def forward(self, x):
        u = functional.unfold(x, 3, padding=1)
        u = u.reshape(u.shape[0], 27, *x.shape[-2:])
        return functional.conv_transpose2d(u, self.eye, padding=1)


class Dilated(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.up = nn.ConvTranspose2d(3, 2, 3, stride=2, dilation=2, padding=1)

    def forward(self, x):
        return self.up(x)


class DilatedByZeros(Dilated):
    def forward(self, x):
        weight = self.up.weight.new_zeros(3, 2, 5, 5)
        weight[..., ::2, ::2] = self.up.weight
        return functional.conv_transpose2d(x, weight, self.up.bias, stride=2, padding=1)


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(4, 6, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.layer(packed)[0], batch_first=True)[0]


class Masked(Packed):
    def forward(self, x, lengths):
        return self.layer(x)[0] * (torch.arange(x.shape[1]) < lengths[:, None])[..., None]


class Quantised(nn.Module):
    """As torch.ao's training for quantisation leaves it."""

    def __init__(self):
        super().__init__()
        self.quantise, self.layer = quantization.QuantStub(), nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.layer(self.quantise(x))


def quantised():
    module = Quantised().train()
    module.qconfig = quantization.get_default_qat_qconfig("x86")
    quantization.prepare_qat(module, inplace=True)
    module(torch.randn(2, 3, 8, 8))
    return module.apply(quantization.disable_observer).eval()


class Deformed(nn.Module):
    def forward(self, x, offset):
        from torchvision.ops import deform_conv2d

        return deform_conv2d(x, offset, torch.ones(2, 3, 3, 3), padding=1)


def refusal(module, inputs, tmp_path):
    """Return the error of the first stage of a conversion that fails, with its advice."""
    names = tuple(f"input_{index}" for index in range(len(inputs)))
    weights = Weights("none", "")
    model = Model("net", "own", module, names, ("output",), inputs, weights, None, (1.0, 1.0))
    plugins = PluginSource(None, tmp_path, tmp_path)
    conversion = Conversion(ROW, model, tmp_path, plugins, lambda _: None)
    try:
        conversion._exported = conversion._export()
        conversion.build()
    except ConversionError as error:
        return with_advice(error)
    raise AssertionError("nothing refused the model")


def place_of(words):
    source = inspect.getsource(inspect.getmodule(place_of)).splitlines()
    (line,) = [number for number, text in enumerate(source, 1) if words in text][:1]
    return f"at {__file__}:{line} in forward"


PICTURE = torch.rand(1, 3, 6, 6)
ROWS = torch.rand(4, 4)


@pytest.mark.parametrize(
    ("module", "inputs", "name", "op", "line"),
    [
        (ScatterAdd(), (ROWS, INDEX), "scatter-with-reduction", "ScatterElements", "scatter_add(0"),
        (IndexAdd(), (ROWS, INDEX), "scatter-with-reduction", "ScatterND", "index_add(0"),
        (Fold(), (PICTURE,), "fold", "Col2Im", "functional.fold(functional"),
        (Dilated(), (PICTURE,), "dilated-deconvolution", "ConvTranspose", "self.up(x)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorrt_refusal_names_its_place(module, inputs, name, op, line, tmp_path):
    error = refusal(module.eval(), inputs, tmp_path)
    assert re.search(rf"\n  op: {op} \(node \S+\)\n", error.message)
    assert place_of(line) in error.message
    assert explain(error.message)[0].failure.name == name
    assert "\n  why: " in error.message
    assert error.hint == explain(error.message)[0].failure.hint


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_packed_sequence_and_training_errors_have_a_line(tmp_path):
    lengths = torch.tensor([5, 3, 1])
    error = refusal(Packed().eval(), (torch.rand(3, 5, 4), lengths), tmp_path)
    assert place_of("pad_packed_sequence(self.layer") in error.message
    assert explain(error.message)[0].failure.name == "packed-sequence"
    error = refusal(quantised(), (PICTURE,), tmp_path)
    assert place_of("self.layer(self.quantise(x))") in error.message
    assert explain(error.message)[0].failure.name == "qat-module"


@pytest.mark.parametrize(
    ("module", "instead", "inputs"),
    [
        (ScatterAdd(), OneHotSum(), (ROWS, INDEX)),
        (Fold(), FoldByConvolution(), (PICTURE,)),
        (Dilated(), DilatedByZeros(), (PICTURE,)),
        (Packed(), Masked(), (torch.rand(3, 5, 4), torch.tensor([5, 3, 1]))),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_advised_replacement_works_and_is_equal(module, instead, inputs, tmp_path):
    from trtyard.pipeline.tensorrt.engine import build_engine

    instead.load_state_dict(module.state_dict(), strict=False)
    torch.testing.assert_close(instead.eval()(*inputs), module.eval()(*inputs))
    names = [f"input_{index}" for index in range(len(inputs))]
    file = tmp_path / "model.onnx"
    export_onnx(instead, inputs, names, ["output"], "dynamo", 18, file)
    assert build_engine(file, tmp_path / "model.engine").layers > 0


@pytest.mark.parametrize(("toolchain", "advised"), [(RTX, "replace it"), (FULL, "--opset 19")])
def test_later_opset_is_advised_only_if_it_helps(toolchain, advised, tmp_path):
    inputs = (PICTURE, torch.zeros(1, 18, 6, 6))
    with pytest.raises(ConversionError) as caught:
        export_onnx(
            Deformed().eval(),
            inputs,
            ["x", "offset"],
            ["output"],
            "dynamo",
            18,
            tmp_path / "model.onnx",
        )
    error = with_advice(caught.value, [toolchain], toolchain.row)
    assert "this op came with opset 19" in error.message
    assert error.hint.startswith(advised)
    assert ("row rtx-1.7 does not have it" in error.message) == (toolchain is RTX)


class Converts(nn.Module):
    """Makes float16 of a part each time it runs."""

    def __init__(self):
        super().__init__()
        self.part = nn.Linear(4, 4)

    def forward(self, image):
        return self.part.half()(image.half()).float()


def test_conversion_inside_forward_has_its_line(tmp_path):
    error = refusal(Converts().eval(), (torch.rand(2, 4),), tmp_path)
    assert place_of("self.part.half()(image") in error.message
    assert explain(error.message)[0].failure.name == "module-converted-in-forward"
