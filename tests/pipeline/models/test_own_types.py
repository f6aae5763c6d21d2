"""A user's module keeps its floating point types, and says where it cannot."""

import pytest
import torch
from torch import nn

from trtyard.core.errors import UsageError
from trtyard.pipeline.models import own
from trtyard.pipeline.models.checkpoint import state_sha256
from trtyard.pipeline.models.own import load_own
from trtyard.pipeline.models.own_types import precision_of, to_float32, types_in
from trtyard.pipeline.models.weights import Choice


class Mixed(nn.Module):
    """A body in one type, a head in float32."""

    def __init__(self, dtype, casts_input=True):
        super().__init__()
        self.body = nn.Linear(4, 8).to(dtype)
        self.head = nn.Linear(8, 2)
        self.dtype = dtype if casts_input else None

    def forward(self, x):
        x = x if self.dtype is None else x.to(self.dtype)
        return self.head(self.body(x).float())


class Shifted(nn.Module):
    """A float64 buffer, as one that comes from NumPy is."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.ones(4, dtype=torch.float64))
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear((x - self.mean).float())


@pytest.fixture
def loaded(monkeypatch):
    """Return a function that loads a module as a user's own."""

    def load(module, shape="3x4"):
        monkeypatch.setattr(own, "find_callable", lambda _: module)
        return load_own("nets:make", Choice(None, 0), shape)

    return load


HALF, FLOAT, DOUBLE, LOW = torch.float16, torch.float32, torch.float64, torch.bfloat16


@pytest.mark.parametrize(
    ("module", "shape", "types", "given", "noted"),
    [
        (nn.Linear(4, 2), "3x4", (FLOAT,), FLOAT, ""),
        (Mixed(HALF), "3x4", (HALF, FLOAT), FLOAT, ""),
        (Mixed(HALF, casts_input=False), "3x4", (HALF, FLOAT), HALF, "the inputs are float16"),
        (Mixed(HALF, casts_input=False), "3x4:float16", (HALF, FLOAT), HALF, ""),
        (nn.Linear(4, 2).half(), "3x4", (HALF,), HALF, "the inputs are float16"),
        (nn.Linear(4, 2).half(), "3x4:float32", (FLOAT,), FLOAT, "--input asks for float32"),
        (nn.Linear(4, 2).bfloat16(), "3x4", (FLOAT,), FLOAT, "no bfloat16 on the CPU"),
        (nn.Linear(4, 2).double(), "3x4", (FLOAT,), FLOAT, "nothing in float64"),
        (Shifted(), "3x4", (FLOAT,), FLOAT, "the float64 weights"),
        (Mixed(DOUBLE), "3x4", (DOUBLE, FLOAT), FLOAT, ""),  # casts to float64 itself
        (Mixed(LOW), "3x4", (LOW, FLOAT), FLOAT, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_types_are_kept_and_conversions_noted(loaded, module, shape, types, given, noted):
    model = loaded(module, shape)
    assert set(types_in(model.module)) == set(types)
    assert model.inputs[0].dtype == given
    assert len(model.notes) == bool(noted)
    assert noted in "".join(model.notes)
    assert model.module(*model.inputs).shape == (3, 2)


def test_conversion_can_be_undone():
    module = Mixed(DOUBLE)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    conversion = to_float32(module, (DOUBLE,))
    assert types_in(module) == (FLOAT,)
    conversion.undo()
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [value.dtype for value in before.values()] == [value.dtype for value in after.values()]


def test_float16_shape_error_shows_torchs_message(loaded):
    with pytest.raises(UsageError, match="shapes cannot be multiplied"):
        loaded(nn.Linear(4, 2).half(), "3x5")


def test_precision_is_named_by_the_weights():
    assert precision_of(nn.Linear(4, 2)) == "fp32"
    assert precision_of(nn.Linear(4, 2).half()) == "fp16"
    assert precision_of(Mixed(HALF)) == "fp16 and fp32"
    assert precision_of(nn.ReLU()) == "fp32"


def test_bfloat16_weights_have_a_digest():
    torch.manual_seed(0)
    linear = nn.Linear(4, 2).bfloat16()
    digest = state_sha256(linear)
    with torch.no_grad():
        linear.weight[0, 0] += 1
    assert state_sha256(linear) != digest
