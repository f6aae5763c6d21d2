"""Load the C++ shells into TensorRT and build with them; print what happened as JSON.

    python drive_plugin_shells.py LIBRARY

A process of its own: a library stays in TensorRT's registry, and a bad one can end the process.
"""

import json
import sys

from onnx import TensorProto, helper

from trtyard.pipeline.onnx_functions import DOMAIN, DOMAIN_VERSION, OP_TYPES, function
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.driver_rtx import plugin_layers_in_plan
from trtyard.pipeline.tensorrt.engine import plugin_layers_of

NMS = {"iou_threshold": 0.5, "score_threshold": -1.0, "keep_top_k": 10, "box_offset": 1}
ROI = {
    "output_height": 7,
    "output_width": 5,
    "spatial_scale": 0.0625,
    "sampling_ratio": 2,
    "aligned": 1,
}
PYRAMID = {
    "output_height": 3,
    "output_width": 2,
    "sampling_ratio": 2,
    "aligned": 0,
    "canonical_scale": 224,
    "canonical_level": 4,
    "scale_0": 0.0625,
    "scale_1": 0.03125,
}


class Log(trt.ILogger):
    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors = []

    def log(self, severity, message) -> None:
        if severity <= trt.ILogger.Severity.ERROR:
            self.errors.append(message)


def model(nms=NMS, roi=ROI, batch=2, rois=9, element=TensorProto.FLOAT, functions=True, rank=4):
    whole = TensorProto.INT32
    shape = [batch, 1, 100, 4] if rank == 4 else [batch, 100, 4]
    inputs = [
        ("boxes", element, shape),
        ("scores", element, [batch, 3, 100]),
        ("features", element, [batch, 8, 20, 20]),
        ("coarse", element, [batch, 8, 10, 10]),
        ("rois", TensorProto.FLOAT, [rois, 4]),
        ("images", whole, [rois]),
    ]
    outputs = [
        ("indices", whole, [batch, 10]),
        ("count", whole, [batch]),
        ("pooled", element, [rois, 8, 7, 5]),
        ("of_levels", element, [rois, 8, 3, 2]),
    ]
    nodes = [
        helper.make_node(
            "PaddedNMS", ["boxes", "scores"], ["indices", "count"], domain=DOMAIN, **nms
        ),
        helper.make_node(
            "MaskRcnnROIAlign", ["features", "rois", "images"], ["pooled"], domain=DOMAIN, **roi
        ),
        helper.make_node(
            "MultiscaleRoIAlign",
            ["features", *["coarse"] * 4, "rois", "images"],
            ["of_levels"],
            domain=DOMAIN,
            **PYRAMID,
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        functions=[function(op_type, 18) for op_type in OP_TYPES] if functions else [],
        ir_version=10,
    )


def build(onnx_model, dynamic=False):
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    parser.set_flag(trt.OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE)
    if not parser.parse(onnx_model.SerializeToString()):
        return {"parsed": False, "errors": log.errors}
    config = builder.create_builder_config()
    if dynamic:
        profile = builder.create_optimization_profile()
        for name, rest in (
            ("boxes", [1, 100, 4]),
            ("scores", [3, 100]),
            ("features", [8, 20, 20]),
            ("coarse", [8, 10, 10]),
        ):
            profile.set_shape(name, [1, *rest], [2, *rest], [4, *rest])
        for name, rest in (("rois", [4]), ("images", [])):
            profile.set_shape(name, [1, *rest], [50, *rest], [300, *rest])
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    return {
        "parsed": True,
        "built": plan is not None,
        "network": plugin_layers_of(network),
        "plan": [] if plan is None else plugin_layers_in_plan(bytes(plan)),
        "outputs": [
            [output.name, list(output.shape), str(output.dtype)]
            for output in (network.get_output(i) for i in range(network.num_outputs))
        ],
        "errors": log.errors,
    }


def main(library):
    registry = trt.get_plugin_registry()
    loaded = registry.load_library(library)
    incomplete = {name: value for name, value in NMS.items() if name != "box_offset"}
    results = {
        "loaded": loaded is not None,
        "creators": sorted(
            [creator.name, creator.plugin_version, creator.plugin_namespace]
            for creator in registry.all_creators
            if creator.name in OP_TYPES
        ),
        "static": build(model()),
        "no functions": build(model(functions=False)),
        "float16": build(model(element=TensorProto.FLOAT16)),
        "dynamic": build(model(batch="batch", rois="rois"), dynamic=True),
        "maximum": build(model(roi=dict(ROI, mode=1))),
        "bad mode": build(model(roi=dict(ROI, mode=2))),
        "missing attribute": build(model(nms=incomplete)),
        "bad attribute": build(model(nms=dict(NMS, box_offset=2))),
        "bad rank": build(model(rank=3)),
    }
    sys.stdout.write(json.dumps(results))
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
