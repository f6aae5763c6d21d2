from pathlib import Path

import pytest

from trtyard.core.errors import UsageError
from trtyard.run.plugins import ONNXRUNTIME, TENSORRT, compile_plugins


def refusal(runtime: str, headers: Path) -> str:
    with pytest.raises(UsageError) as refused:
        compile_plugins("rtx-1.7", runtime=runtime, headers=str(headers), out="")
    return str(refused.value)


def test_headers_of_an_unsupported_api_are_refused(tmp_path: Path) -> None:
    (tmp_path / "NvInfer.h").touch()
    (tmp_path / "NvInferVersion.h").write_text("#define NV_TENSORRT_MAJOR 8\n", encoding="utf-8")
    said = refusal(TENSORRT, tmp_path)
    assert "needs cpp-v2 plugins; row rtx-1.7 supports" in said
    assert "cpp-v3" in said


def test_headers_of_the_other_runtime_are_refused(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime_cxx_api.h").touch()
    assert "has headers of onnxruntime\n  add --for onnxruntime" in refusal(TENSORRT, tmp_path)
    (tmp_path / "onnxruntime_cxx_api.h").rename(tmp_path / "NvInfer.h")
    assert "onnxruntime_cxx_api.h is not in this folder" in refusal(ONNXRUNTIME, tmp_path)


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(UsageError, match="--for must be tensorrt or onnxruntime, not 'tvm'"):
        compile_plugins("rtx-1.7", runtime="tvm", headers="", out="")
