"""The contract of a custom op: the names, tensors and attributes of its ONNX node.

The op's ``reference`` defines its results. Its arguments have the contract's order.
"""

import inspect
from typing import Any, Dict, NamedTuple, Sequence, Tuple

DOMAIN = "trtyard"
DOMAIN_VERSION = 1

# Types of inputs and outputs.
FLOATS = "T"  # float32, float16 or bfloat16, the same for all tensors of an op with this type
FLOAT32 = "tensor(float)"
INT32 = "tensor(int32)"


class Op(NamedTuple):
    """One custom op."""

    name: str  # of the torch operator
    op_type: str  # of the ONNX node
    inputs: Tuple[str, ...]
    input_types: Tuple[str, ...]
    outputs: Tuple[str, ...]
    output_types: Tuple[str, ...]
    attributes: Tuple[Tuple[str, type], ...]  # name, and float or int
    optional: Tuple[str, ...] = ()  # the last attributes: 0 if they are not given
    has_plugin: bool = True  # TensorRT gets a plugin instead of the function body

    def apart(self, arguments: Sequence[Any]) -> Tuple[Sequence[Any], Dict[str, Any]]:
        """Split a call's arguments, in order, into the tensors and all attributes by name."""
        tensors, values = arguments[: len(self.inputs)], list(arguments[len(self.inputs) :])
        values += [0] * (len(self.attributes) - len(values))
        return tensors, {name: kind(value) for (name, kind), value in zip(self.attributes, values)}

    def signature(self, *before: str) -> inspect.Signature:
        """Return a function signature with the parameters ``before``, then the op's arguments."""
        parameters = [(name, Any) for name in (*before, *self.inputs)] + list(self.attributes)
        return inspect.Signature(
            [
                inspect.Parameter(
                    name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    annotation=kind,
                    default=0 if name in self.optional else inspect.Parameter.empty,
                )
                for name, kind in parameters
            ]
        )
