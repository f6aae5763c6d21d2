"""Short forms of ``--model``: a model of a package by its name there.

``timm:resnet18`` and ``hf:FOLDER``. Standard library only, Python 3.6.
"""

from typing import Optional

TIMM, HF = "timm", "hf"
# The requirement of each form, and the package that it is about. The extra of transformers names
# the releases of torch that it supports.
REQUIREMENTS = {TIMM: "timm", HF: "transformers[torch]"}
# Later releases compute attention in a way that the TorchScript exporter cannot write.
FOR_TORCHSCRIPT = {HF: "transformers[torch]<4.48"}
PACKAGES = {TIMM: "timm", HF: "transformers"}


def short_form(spec: str) -> Optional[str]:
    """Return ``timm`` or ``hf`` if the value of --model is in that form, else None."""
    form, colon, rest = spec.partition(":")
    return form if colon and rest and form in REQUIREMENTS else None


def short_name(spec: str) -> str:
    """Return what follows the form's colon: a name, or a folder."""
    return spec.partition(":")[2]
