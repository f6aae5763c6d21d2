"""Class names of a detector trained on COCO, by its contiguous labels (1 to 80, 0 background)."""

from pathlib import Path
from typing import List


def _read() -> List[str]:
    return (Path(__file__).parent / "coco.txt").read_text(encoding="utf-8").split("\n")[:-1]


COCO_NAMES = tuple(_read())


def class_name(label: int) -> str:
    """Return the class's name, or "class 91" for a label that COCO's 80 classes do not have."""
    return COCO_NAMES[label] if 0 <= label < len(COCO_NAMES) else f"class {label}"
