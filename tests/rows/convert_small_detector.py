"""``python -m trtyard.pipeline``, with a smaller network for two of torchvision's detectors.

Everything but the depth of the backbone and the number of detections is as usual. torch 1.4 exports
a large graph in quadratic time, and the heads run on every row of the padding.

Plain Python 3.6 without pytest: it runs in the rows' own environments.
"""

import sys

import torchvision
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from trtyard.pipeline import cli
from trtyard.pipeline.models import torchvision_detector

DETECTIONS = 10
CLASSES = {
    "maskrcnn_resnet50_fpn": (detection.MaskRCNN, 91),
    "keypointrcnn_resnet50_fpn": (detection.KeypointRCNN, 2),
}


def small_detector(name):
    kind, classes = CLASSES[name]
    if hasattr(torchvision.models, "get_model"):
        backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    else:
        backbone = resnet_fpn_backbone("resnet18", False)
    return kind(backbone, classes, box_detections_per_img=DETECTIONS)


if __name__ == "__main__":
    torchvision_detector.untrained_detector = small_detector
    sys.exit(cli.main(sys.argv[1:]))
