"""ONNX Runtime in a process of its own: here on the CPU, with the custom ops' CPU kernels."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from one_node import nms_by_function, one_node_model
from onnx import TensorProto, helper

from trtyard.core.errors import ConversionError, EnvironmentLacksError
from trtyard.pipeline.onnx_model.versions import CPU_PROVIDER
from trtyard.pipeline.onnxruntime_cuda.process import Asked, running

NMS = {"iou_threshold": 0.5, "score_threshold": 0.2, "keep_top_k": 20, "box_offset": 0}
OUTPUTS = [(TensorProto.INT32, 2), (TensorProto.INT32, 1)]
REGISTERS = "void* RegisterCustomOps(void* options, void* base) {{ {} }}\n"


@pytest.fixture(scope="module")
def inputs():
    random = np.random.default_rng(0)
    corner = random.uniform(0, 100, (1, 1, 60, 2))
    boxes = np.concatenate([corner, corner + random.uniform(1, 50, corner.shape)], -1)
    return {"input_0": np.float32(boxes), "input_1": np.float32(random.random((1, 3, 60)))}


@pytest.fixture
def asked(tmp_path, inputs):
    """Ask for a file of one PaddedNMS without its function, so only a library can run it."""
    model = one_node_model("PaddedNMS", list(inputs.values()), OUTPUTS, 18, **NMS)
    del model.functions[:]
    onnx.save(model, str(tmp_path / "nms.onnx"))
    return Asked(tmp_path / "nms.onnx", inputs, provider=CPU_PROVIDER, threads=1)


def compiled(folder, code):
    """Return a library whose only function has this body."""
    source, made = folder / "other.c", folder / "libother.so"
    source.write_text("#include <stdlib.h>\n" + code)
    subprocess.run(["gcc", "-shared", "-fPIC", str(source), "-o", str(made)], check=True)
    return made


def test_library_runs_the_ops_and_each_run_is_timed(asked, library, inputs):
    with running(asked._replace(library=library)) as ran:
        times = [ran.run() for _ in range(3)]
        found = list(ran.outputs.values())
    expected = nms_by_function(*inputs.values(), **NMS)
    assert list(ran.outputs) == ["output_0", "output_1"]
    for got, wanted in zip(found, expected):
        np.testing.assert_array_equal(got, wanted)
    assert all(time > 0 for time in times)
    assert ran.seconds > 0


def test_outputs_at_fixed_places_are_the_same(asked, library):
    """As for a CUDA graph, which the CPU does not record."""
    with running(asked._replace(library=library)) as ran:
        expected = ran.outputs
    with running(asked._replace(library=library, is_graph=True)) as ran:
        ran.run()
    for name, value in expected.items():
        np.testing.assert_array_equal(ran.outputs[name], value)


def test_file_without_library_names_the_missing_op(asked):
    with pytest.raises(ConversionError, match=r"cannot run nms\.onnx: .*PaddedNMS"), running(asked):
        pass


WRONG = {
    "no library": (b"not a library", r"refuses libtext\.so: .*(invalid ELF header|file too short)"),
    "no custom ops": ("int nothing;", r"refuses libother\.so: .*RegisterCustomOps"),
    "crashes": (REGISTERS.format("abort();"), r"was killed by SIGABRT and libother\.so loaded"),
    "bad address": (
        REGISTERS.format("return *(void**)8;"),
        r"was killed by SIGSEGV and libother\.so loaded",
    ),
    "ends the process": (REGISTERS.format("exit(7);"), r"ended with exit code 7"),
}


@pytest.mark.parametrize(("content", "words"), WRONG.values(), ids=WRONG)
def test_wrong_library_is_an_error_with_a_hint(asked, tmp_path, content, words):
    if isinstance(content, bytes):
        wrong = tmp_path / "libtext.so"
        wrong.write_bytes(content)
    else:
        wrong = compiled(tmp_path, content)
    with (
        pytest.raises(ConversionError, match=words) as caught,
        running(asked._replace(library=wrong)),
    ):
        pass
    assert "./run plugins --for onnxruntime" in caught.value.hint


def test_library_that_needs_missing_cuda_is_named(asked, tmp_path):
    """As if it were linked against a CUDA runtime that this machine does not have."""
    (tmp_path / "absent").mkdir()
    absent = tmp_path / "absent" / "libcudart.so.99"
    subprocess.run(
        [
            "gcc",
            "-shared",
            "-Wl,-soname,libcudart.so.99",
            "-x",
            "c",
            "/dev/null",
            "-o",
            str(absent),
        ],
        check=True,
    )
    source, made = tmp_path / "needs.c", tmp_path / "libneeds.so"
    source.write_text(REGISTERS.format("return 0;"))
    command = ["gcc", "-shared", "-fPIC", str(source), "-Wl,--no-as-needed", str(absent)]
    subprocess.run([*command, "-o", str(made)], check=True)
    absent.unlink()
    with (
        pytest.raises(ConversionError, match=r"refuses libneeds\.so: .*libcudart\.so\.99"),
        running(asked._replace(library=made)),
    ):
        pass


def test_onnxruntime_without_cuda_is_something_the_machine_lacks(asked):
    with (
        pytest.raises(EnvironmentLacksError, match="has no CUDAExecutionProvider"),
        running(asked._replace(provider="CUDAExecutionProvider")),
    ):
        pass


def test_packages_come_before_those_of_the_environment(asked, tmp_path):
    folder = tmp_path / "gpu"
    (folder / "site-packages").mkdir(parents=True)
    (folder / "site-packages" / "onnxruntime.py").write_text(
        '__version__ = "7.7"\n\n\ndef get_available_providers():\n    return ["FirstProvider"]\n'
    )
    with (
        pytest.raises(EnvironmentLacksError, match=r"onnxruntime 7\.7 has no .* FirstProvider"),
        running(asked._replace(packages=folder)),
    ):
        pass


# What onnxruntime-gpu 1.31.1 does on a machine without a driver.
UNLOADABLE = """
import sys

__version__ = "1.31.1"


class SessionOptions:
    pass


class InferenceSession:
    def __init__(self, *_, **__):
        sys.stderr.write(
            "\\x1b[1;31m2026-11-30 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] "
            "[ONNXRuntimeError] : 1 : FAIL : Failed to load library /a/libonnxruntime_providers_"
            "cuda.so with error: libcuda.so.1: cannot open shared object file\\n\\x1b[m"
        )

    def get_providers(self):
        return ["CPUExecutionProvider"]


def get_available_providers():
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]
"""


def test_provider_that_cannot_be_loaded_names_the_missing_library(asked, tmp_path):
    folder = tmp_path / "gpu"
    (folder / "site-packages").mkdir(parents=True)
    (folder / "site-packages" / "onnxruntime.py").write_text(UNLOADABLE)
    with (
        pytest.raises(EnvironmentLacksError) as caught,
        running(asked._replace(packages=folder, provider="CUDAExecutionProvider")),
    ):
        pass
    assert caught.value.message == (
        "onnxruntime 1.31.1 cannot load its CUDAExecutionProvider: "
        "libcuda.so.1: cannot open shared object file"
    )
    assert caught.value.log.startswith("2026-11-30 [E:onnxruntime")


def test_several_dtypes_and_a_name_of_a_keyword_come_through(tmp_path):
    given = {"file": np.array([[1, 2]], np.int64), "args": np.array([0.5, 3], np.float16)}
    kinds = {"file": TensorProto.INT64, "args": TensorProto.FLOAT16}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in given],
        "identities",
        [value(name, kinds[name], each.shape) for name, each in given.items()],
        [value(f"{name}_out", kinds[name], None) for name in given],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(tmp_path / "two.onnx"))
    unused = {"unused": np.zeros(1, np.float32)}
    with running(Asked(tmp_path / "two.onnx", {**given, **unused}, provider=CPU_PROVIDER)) as ran:
        pass
    for name, each in given.items():
        assert ran.outputs[f"{name}_out"].dtype == each.dtype
        np.testing.assert_array_equal(ran.outputs[f"{name}_out"], each)


def test_process_ends_with_the_block(asked, library):
    with running(asked._replace(library=library)) as ran:
        process = ran._process._process
        assert process.poll() is None
    assert process.poll() is not None


def test_process_that_is_killed_is_an_error_of_the_run(asked, library):
    with running(asked._replace(library=library)) as ran:
        ran._process._process.kill()
        with pytest.raises(ConversionError, match="was killed by SIGKILL"):
            ran.run()


def test_child_imports_neither_torch_nor_onnx():
    code = "import sys, trtyard.pipeline.onnxruntime_cuda.child; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE).stdout
    assert not {"torch", "onnx"} & set(said.decode().split())
