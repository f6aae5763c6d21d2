"""Dimensions that torch.export cannot keep open: the message that trtyard gives."""

import pytest

from trtyard.pipeline.export.axes import Axes, output_sizes
from trtyard.pipeline.export.constraints import (
    Decisions,
    Guard,
    constraint_error,
    required_multiples,
)

AXES = Axes(
    inputs={"x": {0: "batch", 1: "s"}, "y": {0: "n"}},
    outputs={},
    limits={"batch": (1, 8), "s": (4, 128), "n": (1, 8)},
    steps={"batch": 1, "s": 4, "n": 1},
    traced={"batch": 5, "s": 12, "n": 7},
)

EQUAL = """Constraints violated (n)! For more information, run with TORCH_LOGS="+dynamic".
  - The values of n = L['y'].size()[0] and batch = L['x'].size()[0] must always be equal.
Suggested fixes:
  n = batch
"""
MULTIPLE = """Constraints violated (s)! For more information, run with TORCH_LOGS="+dynamic".
  - Not all values of s = L['x'].size()[1] in the specified range 4 <= s <= 128 satisfy the \
generated guard (L['x'].size()[1] % 8) == 0.
Suggested fixes:
  _s = Dim('_s', min=1, max=16)
  s = 8*_s
"""
BELOW = """Constraints violated (batch)! For more information, run with TORCH_LOGS="+dynamic".
  - Not all values of batch = L['x'].size()[0] in the specified range batch <= 8 satisfy the \
generated guard 2 <= L['x'].size()[0] and L['x'].size()[0] <= 6
Suggested fixes:
  batch = Dim('batch', min=2, max=6)
"""


@pytest.mark.parametrize(
    ("words", "problem", "hint"),
    [
        (EQUAL, "n: it must equal batch in this code", "[batch=1..8] and [batch]"),
        (MULTIPLE, "s: 4..128 was asked for, and the code needs a multiple of 8", "8:32:128"),
        (BELOW, "batch: 1..8 was asked for, and the code takes sizes from 2 up to 6", "one side"),
    ],
)
def test_each_violation_names_its_dimension_and_a_way_out(words, problem, hint):
    error = constraint_error(words, Decisions(), AXES)
    assert problem in error.message
    assert hint in error.hint


def test_multiples_are_read_from_the_suggestions():
    assert required_multiples(MULTIPLE) == {"s": 8}
    assert required_multiples(BELOW) == {}


def test_line_is_where_the_dimension_was_fixed():
    heard = Decisions()
    heard.symbols = {"s77": 5, "s27": 12}
    heard.guards = [
        Guard("Ne(s77, 12)", "net.py:3"),
        Guard("Eq(s27, 12)", "net.py:4"),
        Guard("s77 <= 6", "net.py:5"),
        Guard("Eq(s77, 5)", "net.py:6"),
    ]
    assert heard.line_for("batch", AXES) == "net.py:6"
    assert heard.line_for("s", AXES) == "net.py:4"
    assert heard.line_for("n", AXES) is None
    heard.guards.pop()
    assert heard.line_for("batch", AXES) == "net.py:5"


def test_sizes_of_outputs_are_numbers_or_names():
    runs = [
        ({"batch": 4, "s": 16}, {"y": (4, 16, 8), "z": (20,), "of_rank": (1,)}),
        ({"batch": 1, "s": 3}, {"y": (1, 3, 8), "z": (4,), "of_rank": (1, 1)}),
    ]
    assert output_sizes(runs) == {"y": ("batch", "s", 8), "z": ("z_dim0",)}
