"""Each known failure of an exporter, provoked with the row's own torch."""

import io
import warnings

import pytest
import torch
import torchvision
from failing_models import first, traceback_of
from torch import nn

from trtyard.core.errors import ConversionError
from trtyard.known_failures.advice import with_advice, worth_telling
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.onnx_model.runner import run_onnx


class BoxList:
    def __init__(self, boxes):
        self.boxes = boxes


class ReturnsOwnClass(nn.Module):
    def forward(self, boxes):
        return [BoxList(boxes)]


class Branch(nn.Module):
    def forward(self, image):
        return image * 2 if image.sum() > 0 else image


def quantized():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 3)), {nn.Linear})


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Linear(3, 3))


class LeavesTorch(nn.Module):
    def forward(self, image):
        return image - float(image.numpy().mean())


class Pooled(nn.Module):
    def forward(self, image):
        return nn.functional.adaptive_avg_pool2d(image[None, None], 2)


class Spectrum(nn.Module):
    def forward(self, image):
        return torch.view_as_real(torch.fft.fft2(image))


class Squared(nn.Module):
    def forward(self, image):
        number = torch.view_as_complex(image[:, :2].contiguous())
        return torch.view_as_real(number * number)


class Assigned(nn.Module):
    def forward(self, image):
        index = torch.tensor([[0, 1], [2, 0]])
        kept = torch.zeros(1, 3, 1, 3) + image.sum()
        kept[:, index, :, index] = image.mean()
        return kept


class FixedBatch(nn.Module):
    def forward(self, image):
        return image + torch.ones(3, 3)


class Triangle(nn.Module):
    def forward(self, matrix):
        return torch.tril(matrix)


class Eigen(nn.Module):
    def forward(self, matrix):
        return torch.linalg.eigvals(matrix)


class Fills(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("state", torch.zeros(3, 3))

    def forward(self, x):
        self.state.copy_(0.5 * self.state + x)
        return self.state


class OnCuda(nn.Module):
    def forward(self, image):
        return image + torch.zeros(3, 3, device="cuda")


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, tokens):
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


LIBRARY = torch.library.Library("known_failures", "FRAGMENT")
LIBRARY.define("double(Tensor x) -> Tensor")
LIBRARY.impl("double", lambda x: x * 2, "CPU")
LIBRARY.define("triple(Tensor x) -> Tensor")
LIBRARY.impl("triple", lambda x: x * 3, "CPU")
torch.library.register_fake("known_failures::triple", torch.empty_like)


class WithoutFake(nn.Module):
    def forward(self, image):
        return torch.ops.known_failures.double(image)


class WithoutSymbolic(nn.Module):
    def forward(self, image):
        return torch.ops.known_failures.triple(image)


def exported(module, exporter, opset=18, inputs=None, **options):
    """Export with torch alone, as somebody would who has never heard of trtyard."""
    torch.onnx.export(
        module.eval(),
        inputs or (torch.rand(3, 3),),
        io.BytesIO(),
        opset_version=opset,
        dynamo=exporter == "dynamo",
        verbose=False,
        **options,
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "module", "exporter", "opset", "code"),
    [
        ("output-of-own-class", ReturnsOwnClass(), "torchscript", 18, None),
        ("output-of-own-class", ReturnsOwnClass(), "dynamo", 18, None),
        ("value-decides-shape-or-branch", Branch(), "dynamo", 18, "image * 2 if image.sum() > 0"),
        ("op-in-later-opset", Triangle(), "torchscript", 13, None),
        ("opset-unknown-to-torch", Triangle(), "torchscript", 30, None),
        ("op-without-onnx-form", Eigen(), "torchscript", 18, None),
        ("op-without-onnx-form", Eigen(), "dynamo", 18, None),
        ("in-place-copy", Fills(), "torchscript", 18, None),
        ("adaptive-pooling", Pooled(), "torchscript", 18, None),
        ("fourier-transform", Spectrum(), "torchscript", 18, None),
        ("complex-numbers", Squared(), "torchscript", 18, None),
        ("assignment-by-indices", Assigned(), "torchscript", 18, None),
        ("library-op-without-symbolic", WithoutSymbolic(), "torchscript", 18, None),
        ("op-without-onnx-form", WithoutSymbolic(), "dynamo", 18, None),
        ("custom-op-without-fake", WithoutFake(), "dynamo", 18, "torch.ops.known_failures.double"),
        ("device-in-model", OnCuda(), "torchscript", 18, 'torch.zeros(3, 3, device="cuda")'),
        ("device-in-model", OnCuda(), "dynamo", 18, 'torch.zeros(3, 3, device="cuda")'),
    ],
)
def test_exporter_errors_are_known(name, module, exporter, opset, code, capfd):
    if name == "device-in-model" and exporter == "torchscript" and torch.cuda.is_available():
        pytest.skip("the error is that of a machine without a CUDA device; this one has one")
    log = traceback_of(lambda: exported(module, exporter, opset))
    capfd.readouterr()
    explanation = first(log)
    assert explanation.failure.name == name
    if code:
        assert __file__ in explanation.place.python
        assert code in explanation.place.python


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", [Pooled(), Squared(), Assigned()])
def test_dynamo_exports_what_torchscript_refuses(module, capfd):
    exported(module, "dynamo")
    capfd.readouterr()


@pytest.mark.filterwarnings("ignore")
def test_a_dimension_that_the_model_fixes_is_known():
    shapes = ({0: torch.export.Dim("batch")},)
    image = (torch.rand(3, 3),)
    log = traceback_of(lambda: torch.export.export(FixedBatch(), image, dynamic_shapes=shapes))
    assert first(log).failure.name == "dimension-not-dynamic"


def test_a_checkpoint_of_another_model_is_known():
    log = traceback_of(lambda: nn.Linear(3, 3).load_state_dict(nn.Linear(4, 3).state_dict()))
    assert first(log).failure.name == "checkpoint-of-other-model"
    log = traceback_of(lambda: nn.Linear(3, 3).load_state_dict({"module.weight": torch.ones(1)}))
    assert first(log).failure.name == "checkpoint-of-other-model"


def test_a_checkpoint_that_holds_a_model_is_known(tmp_path):
    torch.save(Branch(), tmp_path / "net.pth")
    log = traceback_of(lambda: torch.load(tmp_path / "net.pth", weights_only=True))
    assert first(log).failure.name == "checkpoint-with-code"


@pytest.mark.parametrize(
    ("module", "exporter", "words"),
    [
        (ReturnsOwnClass(), "torchscript", "return tensors"),
        (ReturnsOwnClass(), "dynamo", "return tensors"),
        (Branch(), "dynamo", "padding and a count"),
        (WithoutFake(), "dynamo", "register_fake"),
        (WithoutSymbolic(), "torchscript", "register_custom_op_symbolic"),
        (Eigen(), "dynamo", "replace it at that line with ops that have one"),
        (LeavesTorch(), "dynamo", "torch's own functions"),  # "value-leaves-torch"
        (quantized(), "dynamo", "before torch.ao.quantization"),  # "quantized-module"
        (scripted(), "dynamo", "the nn.Module that it was made from"),  # "script-module"
        (nn.Sequential(scripted()), "torchscript", "the nn.Module that it was made from"),
    ],
)
def test_convert_gives_a_hint(module, exporter, words, tmp_path):
    with pytest.raises(ConversionError) as failure:
        export_onnx(
            module.eval(), (torch.rand(3, 3),), ["x"], ["y"], exporter, 18, tmp_path / "model.onnx"
        )
    error = with_advice(failure.value)
    assert words in error.hint
    assert "\n  why: " in error.message
    # What the user sees of it, given to ./run explain, leads to the same.
    explanation = first(str(error))
    assert explanation.failure.hint == error.hint
    at = [line for line in error.message.splitlines() if line.startswith("  at ")]
    assert ["  at " + explanation.place.python for _ in at] == at


@pytest.mark.filterwarnings("ignore")
def test_attention_fast_path_is_known_and_avoided(tmp_path):
    module, tokens = Attention().eval(), torch.rand(1, 3, 4)
    with torch.no_grad():
        log = traceback_of(lambda: exported(module, "torchscript", 17, (tokens,)))
    explanation = first(log)
    assert explanation.failure.name == "attention-fast-path"
    assert explanation.place.op == "aten::_native_multi_head_attention"
    file = tmp_path / "model.onnx"
    export_onnx(module, (tokens,), ["tokens"], ["seen"], "torchscript", 17, file)
    found = run_onnx(file, {"tokens": tokens.numpy()}, ["seen"])
    torch.testing.assert_close(torch.from_numpy(found["seen"]), module(tokens).detach())
    assert torch.backends.mha.get_fastpath_enabled()


class Frozen(nn.Module):
    def forward(self, image):
        return image + torch.as_tensor(image.detach().numpy())


class Length(nn.Module):
    def forward(self, image):
        return image * len(image)


class AlignedRoi(nn.Module):
    def forward(self, features, rois):
        return torchvision.ops.roi_align(features, rois, (7, 7), 0.25, 2, True)


@pytest.mark.parametrize(
    ("name", "module", "opset", "inputs"),
    [
        ("tensor-frozen", Frozen(), 18, (torch.rand(3, 3),)),
        ("python-value-frozen", Length(), 18, (torch.rand(3, 3),)),
        (
            "roi-align-aligned-before-opset-16",
            AlignedRoi(),
            15,
            (torch.rand(1, 3, 8, 8), torch.tensor([[0.0, 0, 0, 10, 10]])),
        ),
    ],
)
def test_tracer_warnings_are_known(name, module, opset, inputs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exported(module, "torchscript", opset, inputs)
    log = "".join(
        warnings.formatwarning(one.message, one.category, one.filename, one.lineno)
        for one in caught
    )
    explanation = first(log)
    assert explanation.failure.name == name
    assert explanation.failure.warning


def test_convert_reports_only_known_warnings(tmp_path):
    inputs = (torch.rand(1, 3, 8, 8), torch.tensor([[0.0, 0, 0, 10, 10]]))
    made = export_onnx(
        AlignedRoi(), inputs, ["x", "rois"], ["y"], "torchscript", 15, tmp_path / "model.onnx"
    )
    # The other is about a shape that torchvision looks at; what is deprecated stays unsaid.
    told = {first(words).failure.name for words in worth_telling(made.warnings)}
    assert told == {"roi-align-aligned-before-opset-16", "python-value-frozen"}


@pytest.mark.filterwarnings("ignore")
def test_a_node_without_schema_is_known():
    import onnxscript

    unregistered = onnxscript.values.Opset("known_failures", 1)
    table = {torch.ops.known_failures.triple.default: lambda x: unregistered.Triple(x)}
    log = traceback_of(
        lambda: exported(WithoutSymbolic(), "dynamo", custom_translation_table=table)
    )
    assert first(log).failure.name == "custom-op-without-schema"
