"""A second model in standard ops, for ONNX Runtimes that cannot run the exported file."""

import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from trtyard.pipeline.export.exporter import Exported
from trtyard.pipeline.export.twin import needs_twin, write_twin
from trtyard.pipeline.onnx_functions import custom_ops_in, functions_for
from trtyard.pipeline.ops.contract import DOMAIN, DOMAIN_VERSION
from trtyard.pipeline.ops.roi_align_op.contract import OP as ROI_ALIGN

ROOT = Path(__file__).resolve().parents[3]


def exported(**change):
    facts = {"nodes": 1, "opset": 18, "custom_ops": (), "functions": (), "warnings": ()}
    return Exported(**{**facts, **change})


def model(aligned=0, opset=11):
    value = helper.make_tensor_value_info
    node = helper.make_node(
        ROI_ALIGN.op_type,
        ["features", "rois", "images"],
        ["pooled"],
        domain=DOMAIN,
        output_height=2,
        output_width=2,
        spatial_scale=0.5,
        sampling_ratio=2,
        aligned=aligned,
    )
    graph = helper.make_graph(
        [node],
        "one_node",
        [
            value("features", TensorProto.FLOAT, [1, 3, 8, 8]),
            value("rois", TensorProto.FLOAT, [4, 4]),
            value("images", TensorProto.INT32, [4]),
        ],
        [value("pooled", TensorProto.FLOAT, [4, 3, 2, 2])],
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    return helper.make_model(graph, opset_imports=domains, ir_version=6)


def test_runnable_file_needs_no_twin():
    assert needs_twin(exported()) is None
    assert needs_twin(exported(custom_ops=("A",), functions=("A",))) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"invalid": "Node () has input size 1"}, "patched exporter"),
        ({"custom_ops": ("A",), "opset": 11}, "opset 11 is too old"),
    ],
)
def test_need_for_a_twin_is_explained(change, words):
    assert words in needs_twin(exported(**change))


def test_twin_has_only_standard_ops(tmp_path):
    file, twin = tmp_path / "model.onnx", tmp_path / "twin.onnx"
    before = model()
    onnx.save(before, str(file))
    origin = write_twin(
        exported(custom_ops=(ROI_ALIGN.op_type,), opset=11),
        file,
        twin,
        lambda _: pytest.fail("export"),
    )
    assert "model.onnx" in origin
    made = onnx.load(str(twin))
    onnx.checker.check_model(made, full_check=True)
    assert {node.domain for node in made.graph.node} == {""}
    assert [entry.domain for entry in made.opset_import] == [""]
    assert onnx.load(str(file)) == before


@pytest.mark.parametrize("change", [{"invalid": "no ONNX", "opset": 11}, {"opset": 10}])
def test_invalid_or_older_file_needs_a_second_export(tmp_path, change):
    asked = []

    def export_at(opset):
        asked.append(opset)
        return model(opset=opset)

    facts = {"custom_ops": (ROI_ALIGN.op_type,), **change}
    origin = write_twin(exported(**facts), tmp_path / "none", tmp_path / "twin.onnx", export_at)
    assert asked == [11]
    assert "second export, at opset 11" in origin


@pytest.mark.parametrize(("opset", "functions"), [(11, []), (15, []), (16, [ROI_ALIGN.op_type])])
def test_functions_are_for_models_whose_opset_has_their_ops(opset, functions):
    assert custom_ops_in(model(opset=opset)) == [ROI_ALIGN.op_type]
    assert [function.name for function in functions_for(model(opset=opset))] == functions


@pytest.mark.slow
def test_function_bodies_match_torch():
    # tests/rows/test_twin.py does the same with the oldest ONNX Runtime.
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "rows" / "compare_bodies.py"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(re.fullmatch(r"(\d+) cases agree\n", done.stdout)[1]) > 500
