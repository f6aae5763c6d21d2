"""The Python V3 shells with a release's own bindings, driven as far as those go without TensorRT.

Run by a row's Python with a library made from told.c and both shells' attributes as JSON; prints
what the shells answered, as JSON.
"""

import ctypes
import json
import sys
from pathlib import Path

import numpy as np

from trtyard.pipeline.ops.kernels import KernelLibrary
from trtyard.pipeline.ops.multiscale_roi_align_op.shell import Plugin as MultiscalePlugin
from trtyard.pipeline.ops.padded_nms_op.shell import Plugin as PaddedNmsPlugin
from trtyard.pipeline.ops.roi_align_op.shell import Plugin as RoiAlignPlugin
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.shell import KernelPluginCreator

FLOAT, HALF, INT32 = trt.DataType.FLOAT, trt.DataType.HALF, trt.DataType.INT32
LINEAR, CHANNELS_LAST = trt.TensorFormat.LINEAR, trt.TensorFormat.HWC
KINDS = {
    float: (np.float32, trt.PluginFieldType.FLOAT32),
    int: (np.int32, trt.PluginFieldType.INT32),
}
# Inputs, then outputs.
NMS_TENSORS = [(HALF, (2, 1, 9, 4)), (HALF, (2, 4, 9)), (INT32, (2, 7)), (INT32, (2,))]
ROI_TENSORS = [
    (FLOAT, (2, 8, 20, 30), CHANNELS_LAST),
    (FLOAT, (6, 4)),
    (INT32, (6,)),
    (FLOAT, (6, 8, 3, 5)),
]
PYRAMID_TENSORS = [
    (FLOAT, (2, 8, 20, 30), CHANNELS_LAST),
    (FLOAT, (2, 8, 10, 15), CHANNELS_LAST),
    *[(FLOAT, (2, 8, 5, 8), CHANNELS_LAST)] * 3,
    (FLOAT, (6, 4)),
    (INT32, (6,)),
    (FLOAT, (6, 8, 3, 5)),
]


def drive(shell, values, tensors, inputs, library):
    creator = KernelPluginCreator(shell, KernelLibrary(library))
    first = creator.create_plugin("first", fields_of(shell, values), trt.TensorRTPhase.BUILD)
    # An engine keeps the fields that the plugin gives, and makes its own from them.
    stored = first.get_fields_to_serialize()
    plugin = creator.create_plugin("again", stored, trt.TensorRTPhase.RUNTIME).clone()
    described = [describe(*tensor) for tensor in tensors]
    ranges = [with_range(*tensor) for tensor in tensors]
    wrong = [*ranges[:-1], with_range(trt.DataType.INT8, tensors[-1][1])]
    input_types, output_types = [t for t, *_ in tensors[:inputs]], [t for t, *_ in tensors[inputs:]]
    addresses = [100 * (number + 1) for number in range(len(tensors))]
    plugin.enqueue(
        described[:inputs], described[inputs:], addresses[:inputs], addresses[inputs:], 4096, 77
    )
    told = ctypes.CDLL(str(library)).last_told
    told.restype = ctypes.c_char_p
    return {
        "name": [creator.name, creator.plugin_version, creator.plugin_namespace],
        "fields": [field.name for field in creator.field_names],
        "values": plugin.values,
        "outputs": plugin.num_outputs,
        "types": list(plugin.get_output_data_types(input_types)) == output_types,
        "takes": [
            plugin.supports_format_combination(position, ranges, inputs)
            for position in range(len(ranges))
        ],
        "takes_int8": plugin.supports_format_combination(len(wrong) - 1, wrong, inputs),
        "workspace": plugin.get_workspace_size(ranges[:inputs], ranges[inputs:]),
        "told": told().decode(),
    }


KEPT = []  # the bindings do not keep the numbers of a field alive


def fields_of(shell, values):
    numbers = [np.array([values[name]], KINDS[kind][0]) for name, kind in shell.op.attributes]
    fields = [
        trt.PluginField(name, number, KINDS[kind][1])
        for (name, kind), number in zip(shell.op.attributes, numbers)
    ]
    KEPT.append((numbers, fields))
    return trt.PluginFieldCollection(fields)


def describe(dtype, shape, layout=LINEAR):
    described = trt.PluginTensorDesc()
    described.type, described.dims, described.format = dtype, shape, layout
    return described


def with_range(dtype, shape, layout=LINEAR):
    ranged = trt.DynamicPluginTensorDesc()
    ranged.desc = describe(dtype, shape, layout)
    ranged.min = ranged.opt = ranged.max = shape
    return ranged


if __name__ == "__main__":
    own, values = Path(sys.argv[1]), json.loads(sys.argv[2])
    answers = {
        "nms": drive(PaddedNmsPlugin, values["nms"], NMS_TENSORS, 2, own),
        "roi": drive(RoiAlignPlugin, values["roi"], ROI_TENSORS, 3, own),
        "pyramid": drive(MultiscalePlugin, values["pyramid"], PYRAMID_TENSORS, 7, own),
    }
    sys.stdout.write(json.dumps(answers))
