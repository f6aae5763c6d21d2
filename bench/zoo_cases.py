"""The cases of bench/zoo.py: models by exporter and opset, the most informative first."""

from typing import NamedTuple

DYNAMO, TORCHSCRIPT = "dynamo", "torchscript"

# Exporter and opset by row, the row's default first. Row 11.4 has the same torch as rtx-1.7.
ROWS = {
    "rtx-1.7": [(DYNAMO, 18), (TORCHSCRIPT, 18), (TORCHSCRIPT, 17), (DYNAMO, 20), (DYNAMO, 23)],
    "10.16": [(DYNAMO, 18), (TORCHSCRIPT, 18), (TORCHSCRIPT, 17), (DYNAMO, 20)],
    "8.6": [(TORCHSCRIPT, 17), (TORCHSCRIPT, 16), (TORCHSCRIPT, 13)],
    "7.0": [(TORCHSCRIPT, 11), (TORCHSCRIPT, 10)],
}

# One model of each family; SECOND has another of some. SIZES has sides other than the default.
CLASSIFIERS = [
    "alexnet", "resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny",
    "vit_b_16", "swin_t", "swin_v2_t", "maxvit_t", "regnet_y_400mf", "shufflenet_v2_x0_5",
    "squeezenet1_1", "densenet121", "googlenet", "inception_v3", "mnasnet0_5",
    "resnext50_32x4d", "vgg11_bn",
]  # fmt: skip
SECOND = ["efficientnet_v2_s", "regnet_x_400mf", "wide_resnet50_2", "mobilenet_v3_large"]
# Models whose graphs differ most between exporters and opsets.
TELLING = [
    "vit_b_16", "swin_v2_t", "efficientnet_b0", "maxvit_t", "mobilenet_v3_small", "convnext_tiny",
    "googlenet", "resnet18",
]  # fmt: skip
SEGMENTERS = ["fcn_resnet50", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large"]
DETECTORS = [
    "fasterrcnn_resnet50_fpn", "ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn", "ssd300_vgg16", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
]  # fmt: skip
SIZES = {
    "inception_v3": 299,
    **dict.fromkeys(SEGMENTERS, 256),
    **dict.fromkeys(DETECTORS, 320),
    "ssd300_vgg16": 300,
}

# The models in torchvision 0.5 (row 7.0).
OLDEST = {
    "alexnet", "resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "squeezenet1_1", "densenet121",
    "googlenet", "inception_v3", "mnasnet0_5", "resnext50_32x4d", "vgg11_bn", "wide_resnet50_2",
    "fcn_resnet50", "deeplabv3_resnet50",
    "fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn",
}  # fmt: skip


class Case(NamedTuple):
    """One export."""

    row: str
    model: str
    exporter: str
    opset: int

    @property
    def key(self) -> str:
        return f"{self.row}.{self.model}.{self.exporter}-{self.opset}"


def cases() -> list[Case]:
    """Return every case, the most informative first."""
    first, second, third, others = slice(0, 1), slice(1, 2), slice(2, 3), slice(1, None)
    newest, older, every = ["rtx-1.7"], ["8.6", "7.0"], list(ROWS)
    waves: list[tuple[list[str], slice, list[str]]] = [
        (CLASSIFIERS + SEGMENTERS, first, every),
        (DETECTORS, second, newest),
        (DETECTORS, first, older),
        (TELLING, third, newest),
        (TELLING + SEGMENTERS, second, older),
        (DETECTORS, first, newest),
        (TELLING, slice(3, None), newest),
        (TELLING + SEGMENTERS, others, every),
        (DETECTORS, others, every),
        (DETECTORS + SECOND, first, every),
        (CLASSIFIERS + SECOND, others, every),
    ]
    found = [
        Case(row, model, *setting)
        for models, settings, rows in waves
        for model in models
        for row in rows
        if row != "7.0" or model in OLDEST
        for setting in ROWS[row][settings]
        # One opset is enough: torch.export takes long for two stages.
        if not (model in DETECTORS and setting[0] == DYNAMO and setting[1] > 18)
    ]
    return list(dict.fromkeys(found))
