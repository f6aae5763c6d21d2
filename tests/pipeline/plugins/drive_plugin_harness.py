"""Ask the plugins of one shell library what TensorRT's builder asks, and print the answers as JSON.

    python drive_plugin_harness.py HEADERS PLUGINS FOLDER [TENSORRT]

Needs no GPU: nothing is enqueued. A process of its own, since it takes one release.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "gpu"))

import torch
from plugin_harness import HWC, HWC8, Formatted, Harness

NMS = {"iou_threshold": 0.5, "score_threshold": 0.1, "keep_top_k": 40, "box_offset": 1}
ROI_ALIGN = {
    "output_height": 7, "output_width": 6, "spatial_scale": 1 / 16, "sampling_ratio": 2,
    "aligned": 0,
}  # fmt: skip
MULTISCALE = {
    "output_height": 7, "output_width": 6, "sampling_ratio": 2, "aligned": 0,
    "canonical_scale": 224, "canonical_level": 4, "scale_0": 1 / 16, "scale_1": 1 / 32,
}  # fmt: skip


def nms_tensors(dtype, index=torch.int32, keep=40):
    shapes = (2, 1, 4000, 4), (2, 3, 4000), (2, keep), (2,)
    kinds = dtype, dtype, index, index
    return [torch.empty(shape, dtype=kind) for shape, kind in zip(shapes, kinds)], 2


def roi_tensors(dtype, index=torch.int32, channels=64):
    shapes = (2, 64, 50, 40), (300, 4), (300,), (300, channels, 7, 6)
    kinds = dtype, torch.float32, index, dtype
    return [torch.empty(shape, dtype=kind) for shape, kind in zip(shapes, kinds)], 3


def multiscale_tensors(dtype, index=torch.int32, channels=64):
    (features, *others), _ = roi_tensors(dtype, index, channels)
    coarse = [torch.empty(2, 64, 25, 20, dtype=dtype)] * 4
    return [features, *coarse, *others], 7


def ask(plugin, tensors, inputs):
    return plugin.configure(tensors[:inputs], tensors[inputs:])


def stored_without_optional(harness, op, space, kept, attributes):
    """The bytes of a plugin made from those of before the op's last attribute, or None."""
    if kept == 4 * len(attributes):
        return None
    older = harness.restore(op, space, missing=kept - 4 * len(attributes))
    size = older.store()
    older.destroy()
    return size


def formats_taken(harness):
    """Workspace or refusal with features and pooled in each format."""
    plugin = harness.create("MaskRcnnROIAlign", "", ROI_ALIGN)
    found = {}
    for dtype in (torch.float32, torch.float16):
        (features, *rest, pooled), _ = roi_tensors(dtype)
        found[str(dtype)[6:]] = {
            name: plugin.configure(
                [Formatted.of(features, layout) if layout else features, *rest],
                [Formatted.of(pooled, layout) if layout else pooled],
            )
            for name, layout in (("linear", 0), ("hwc", HWC), ("hwc8", HWC8))
        }
    plugin.destroy()
    return found


def answers(harness, op, attributes, tensors_for, wrong_shape):
    first, flag = next(iter(attributes)), "box_offset" if op == "PaddedNMS" else "aligned"
    found = {}
    for space in ("", "trtyard"):
        plugin = harness.create(op, space, attributes)
        kept = plugin.store()
        copy = plugin.attach()
        plugin.destroy()
        loaded = harness.restore(op, space)
        copy.destroy()
        found[space] = {
            "stored": kept,
            "workspace": {
                str(dtype)[6:]: ask(loaded, *tensors_for(dtype))
                for dtype in (torch.float32, torch.float16)
            },
            "float index": ask(loaded, *tensors_for(torch.float32, torch.float32)),
            "wrong shape": ask(loaded, *tensors_for(torch.float32, **wrong_shape)),
            "stored again": loaded.store(),
            "short": harness.restore(op, space, missing=kept - 4 * (len(attributes) - 1)) is None,
            "without optional": stored_without_optional(harness, op, space, kept, attributes),
        }
        loaded.destroy()
    less = {key: value for key, value in attributes.items() if key != first}
    other = 1 if isinstance(attributes[first], float) else 1.0
    found["refused"] = [
        harness.create(op, "", wrong) is None
        for wrong in (less, dict(attributes, **{first: other}), dict(attributes, **{flag: 2}))
    ]
    found["refused"].append(harness.create(op, "nowhere", attributes) is None)
    return found


def main(headers: Path, plugins: Path, folder: Path, tensorrt: "Path | None" = None) -> None:
    harness = Harness(headers, plugins, tensorrt, folder)
    facts = {
        "v2": harness.is_v2,
        "hwc": harness.has_hwc,
        "formats": formats_taken(harness),
        "PaddedNMS": answers(harness, "PaddedNMS", NMS, nms_tensors, {"keep": 41}),
        "MaskRcnnROIAlign": answers(
            harness, "MaskRcnnROIAlign", ROI_ALIGN, roi_tensors, {"channels": 63}
        ),
        "MultiscaleRoIAlign": answers(
            harness, "MultiscaleRoIAlign", MULTISCALE, multiscale_tensors, {"channels": 63}
        ),
    }
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]))
