"""Compatibility data: releases of torch, TensorRT, CUDA and distributions, with their sources.

``rules`` reads it. A row with a release that is not listed here is rejected: add the release with
its source first. Releases are keyed by their first two numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

Release = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class TorchRelease:
    """What the wheels of a torch release on PyPI support."""

    pythons: tuple[int, int]  # the first and the last minor version of Python 3 with a wheel
    cuda: Release  # the CUDA release that the wheel is linked against
    torchscript_opset: int  # the newest opset of its TorchScript exporter
    dynamo: bool  # torch.onnx.export has dynamo=True with a custom_translation_table


@dataclass(frozen=True, kw_only=True)
class TensorrtRelease:
    """What a TensorRT release supports."""

    cuda: tuple[Release, ...]  # if any_minor, one release for each major: (13, 0)
    any_minor: bool  # CUDA's minor version compatibility applies: only the major release counts
    capabilities: tuple[Release, ...]  # compute capabilities that load its engines; empty: see nvcc
    newest_opset: int | None = None  # of its ONNX parser; None if not documented


# Source of wheels and CUDA: the files of each release on PyPI, and torch.version.cuda in them.
# Source of opsets: torch/onnx/_constants.py (ONNX_MAX_OPSET, ONNX_TORCHSCRIPT_EXPORTER_MAX_OPSET);
# for 1.4 the newest torch/onnx/symbolic_opset*.py.
TORCH: Mapping[Release, TorchRelease] = {
    (1, 4): TorchRelease(pythons=(5, 8), cuda=(10, 1), torchscript_opset=11, dynamo=False),
    (2, 2): TorchRelease(pythons=(8, 12), cuda=(12, 1), torchscript_opset=17, dynamo=False),
    (2, 12): TorchRelease(pythons=(10, 14), cuda=(13, 0), torchscript_opset=20, dynamo=True),
    (2, 13): TorchRelease(pythons=(10, 14), cuda=(13, 0), torchscript_opset=20, dynamo=True),
}
DYNAMO_OPSETS = (18, 23)  # exports opset 18 and converts it to newer ones, up to ONNX_MAX_OPSET

_TURING_TO_BLACKWELL = ((7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (12, 0))
_AMPERE_TO_BLACKWELL = ((8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1))

# 10.13 to 10.15: CUDA 12, and CUDA 13 since 10.13.2 (release notes on GitHub); the GPUs supported
# by every release since 10.8, the first with Blackwell. 11.0 to 11.3: the GPUs that both 10.16 and
# 11.4 support.
_TENSORRT_10_13 = TensorrtRelease(
    cuda=((12, 0), (13, 0)), any_minor=True, capabilities=_TURING_TO_BLACKWELL
)
_TENSORRT_11 = TensorrtRelease(
    cuda=((13, 0),), any_minor=True, capabilities=((7, 5), *_AMPERE_TO_BLACKWELL)
)
# TensorRT for RTX before 1.7, from its support matrices: 12.1 since 1.5; 8.0 is not listed.
_RTX_1_4 = TensorrtRelease(
    cuda=((12, 0), (13, 0)), any_minor=True, capabilities=((7, 5), (8, 6), (8, 9), (12, 0))
)
_RTX_1_5 = replace(_RTX_1_4, capabilities=(*_RTX_1_4.capabilities, (12, 1)))

# NVIDIA's support matrix of each release: docs.nvidia.com/deeplearning/tensorrt, for RTX
# docs.nvidia.com/deeplearning/tensorrt-rtx. Since 10.15.1 there are separate builds for CUDA 12 and
# CUDA 13 (its support matrix); 11.x is built for CUDA 13 only (release notes of 11.1).
TENSORRT: Mapping[tuple[str, Release], TensorrtRelease] = {
    ("full", (7, 0)): TensorrtRelease(
        cuda=((9, 0), (10, 0), (10, 2)), any_minor=False, capabilities=(), newest_opset=11
    ),
    ("full", (8, 6)): TensorrtRelease(
        cuda=(*((11, minor) for minor in range(9)), (12, 0), (12, 1)),
        any_minor=False,
        capabilities=((6, 0), (6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 7), (8, 9), (9, 0)),
        newest_opset=17,
    ),
    ("full", (10, 13)): _TENSORRT_10_13,
    ("full", (10, 14)): _TENSORRT_10_13,
    ("full", (10, 15)): _TENSORRT_10_13,
    ("full", (10, 16)): TensorrtRelease(
        cuda=((12, 0), (13, 0)), any_minor=True, capabilities=((7, 5), *_AMPERE_TO_BLACKWELL)
    ),
    **{("full", (11, minor)): _TENSORRT_11 for minor in range(5)},
    ("rtx", (1, 4)): _RTX_1_4,
    ("rtx", (1, 5)): _RTX_1_5,
    ("rtx", (1, 6)): _RTX_1_5,
    # Tested with 1.7.1.116: loading an engine fails on 9.0; 7.5 has no fp32 GEMM.
    ("rtx", (1, 7)): TensorrtRelease(
        cuda=((13, 0),),
        any_minor=True,
        capabilities=((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1)),
    ),
}

# The oldest driver on Linux: CUDA toolkit release notes, table "minimum required driver version for
# CUDA minor version compatibility"; 10.2 has no such compatibility and needs its own driver.
DRIVERS: Mapping[int, tuple[int, ...]] = {
    10: (440, 33),
    11: (450, 80, 2),
    12: (525, 60, 13),
    13: (580, 65, 6),
}

# The first and last real architecture that nvcc compiles for: "GPU Feature List" in the nvcc
# documentation of each toolkit.
NVCC: Mapping[Release, tuple[int, int]] = {
    (10, 2): (30, 75),
    (11, 8): (35, 90),
    (12, 1): (50, 90),
    (12, 9): (50, 121),
    (13, 0): (75, 121),
}

# The first toolkit whose nvcc has --threads: release notes of CUDA 11.2.
NVCC_THREADS: Release = (11, 2)

# Distribution, version of /usr/bin/python3 and glibc of each codename: from its package list.
SUITES: Mapping[str, tuple[str, str, Release]] = {
    "bionic": ("ubuntu", "3.6", (2, 27)),
    "jammy": ("ubuntu", "3.10", (2, 35)),
    "bookworm": ("debian", "3.11", (2, 36)),
    "noble": ("ubuntu", "3.12", (2, 39)),
}


def release_of(version: str) -> Release:
    """Return the first two numbers of a version: (2, 13) for ``"2.13.0"``."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
