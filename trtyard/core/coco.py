"""Class names of a detector trained on COCO, by its labels (0 is the background)."""

from pathlib import Path
from typing import List

# The 80 classes one after the other from 1; and by COCO's own ids, 1 to 90 with gaps.
COCO_80, COCO_90 = "coco-80", "coco-90"
OWN = "own"  # a user's own classes, whose names are unknown


def _read() -> List[str]:
    return (Path(__file__).parent / "coco.txt").read_text(encoding="utf-8").split("\n")[:-1]


COCO_NAMES = tuple(_read())


# The ids from 1 to 90 that COCO left without a class, as torchvision's models have them too.
UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def class_name(label: int, numbering: str = COCO_80) -> str:
    """Return the class's name, or "class 91" for a label that COCO does not have."""
    if numbering == OWN:
        return f"class {label}"
    index = label
    if numbering == COCO_90:
        index = -1 if label in UNUSED_IDS else label - sum(each < label for each in UNUSED_IDS)
    return COCO_NAMES[index] if 0 <= index < len(COCO_NAMES) else f"class {label}"
