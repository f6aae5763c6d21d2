"""The two custom ops as ONNX sees them: the node's name, its tensors and its attributes.

What they mean is in ``padded_nms_reference`` and ``roi_align_reference``, which take them in this
order.
"""

import inspect
from typing import Any, Dict, NamedTuple, Sequence, Tuple

DOMAIN = "trtyard"
DOMAIN_VERSION = 1


class Op(NamedTuple):
    """One custom op."""

    op_type: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    attributes: Tuple[Tuple[str, type], ...]  # name, and float or int
    optional: Tuple[str, ...] = ()  # the last ones: 0 where they are not given

    def apart(self, arguments: Sequence[Any]) -> Tuple[Sequence[Any], Dict[str, Any]]:
        """Return the tensors, and all attributes by name, of a call's arguments in order."""
        tensors, values = arguments[: len(self.inputs)], list(arguments[len(self.inputs) :])
        values += [0] * (len(self.attributes) - len(values))
        return tensors, {name: kind(value) for (name, kind), value in zip(self.attributes, values)}

    def signature(self, *before: str) -> inspect.Signature:
        """Return the signature of a function of the op's arguments, behind those ``before``."""
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


PADDED_NMS = Op(
    "PaddedNMS",
    ("boxes", "scores"),
    ("indices", "count"),
    (
        ("iou_threshold", float),
        ("score_threshold", float),
        ("keep_top_k", int),
        ("box_offset", int),
    ),
)

ROI_ALIGN = Op(
    "MaskRcnnROIAlign",
    ("features", "rois", "batch_indices"),
    ("pooled",),
    (
        ("output_height", int),
        ("output_width", int),
        ("spatial_scale", float),
        ("sampling_ratio", int),
        ("aligned", int),
        ("mode", int),
    ),
    optional=("mode",),
)

OPS = (PADDED_NMS, ROI_ALIGN)
OP_TYPES = tuple(op.op_type for op in OPS)
