"""The constants of maskrcnn-benchmark's e2e_faster_rcnn_R_50_C4_1x at test time.

Sources: that project's configuration and its defaults; Ren et al., Faster R-CNN (2015), for their
meaning. All other modules of this folder use these constants.
"""

import math

# The picture.
PIXEL_MEANS_BGR = (102.9801, 115.9465, 122.7717)  # of ImageNet, in 0..255; deviations are 1
SHORTER_SIDE = 800
LONGER_SIDE_LIMIT = 1333

# The network: ResNet-50 up to its fourth stage (C4); the fifth is the head of each box.
STRIDE = 16  # input pixels per feature cell
FEATURE_CHANNELS = 1024
HEAD_CHANNELS = 2048
CLASSES = 81  # of COCO, with the background as class 0

# Boxes count both edge pixels: a box from 0 to 15 is 16 wide.
BOX_OFFSET = 1

# Region proposals.
ANCHOR_SIZES = (32, 64, 128, 256, 512)
ANCHOR_RATIOS = (0.5, 1.0, 2.0)  # height / width
ANCHORS_PER_CELL = len(ANCHOR_SIZES) * len(ANCHOR_RATIOS)
CANDIDATES = 6000  # "pre NMS top n": anchors before suppression
PROPOSALS = 1000  # "post NMS top n": most proposals after suppression
PROPOSAL_IOU = 0.7
PROPOSAL_MINIMUM_SIDE = 0
PROPOSAL_WEIGHTS = (1.0, 1.0, 1.0, 1.0)

# Detections.
POOLED_SIDE = 14
SAMPLING_RATIO = 0  # adaptive
ALIGNED = 0
DETECTION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
SCORE_THRESHOLD = 0.05
DETECTION_IOU = 0.5
DETECTIONS = 100

# Decoding enlarges a box at most from 16 to 1000 pixels, which keeps exp() finite.
LOG_SCALE_LIMIT = math.log(1000.0 / 16)
