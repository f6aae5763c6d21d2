from pathlib import Path

import pytest

from trtyard.core.errors import UsageError
from trtyard.run.plugins import compile_plugins


def test_headers_of_an_unsupported_api_are_refused(tmp_path: Path) -> None:
    (tmp_path / "NvInfer.h").touch()
    (tmp_path / "NvInferVersion.h").write_text("#define NV_TENSORRT_MAJOR 8\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"needs cpp-v2 plugins; row rtx-1\.7 supports .*cpp-v3"):
        compile_plugins("rtx-1.7", headers=str(tmp_path), out="")
