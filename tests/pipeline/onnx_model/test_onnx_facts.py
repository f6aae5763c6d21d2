"""A file's facts about the node that a log names."""

import itertools
import json

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from trtyard.known_failures.explanation import explain
from trtyard.known_failures.log_places import Place
from trtyard.pipeline import cli
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.onnx_model.origin import nodes_in_words


class Masked(nn.Module):
    def forward(self, image):
        return image[image > 0.5]


@pytest.fixture
def row_file(tmp_path):
    row = {"name": "rtx-1.7", "tensorrt": "1.7.1.116", "flavour": "rtx", "exporter": "dynamo"}
    row.update(opset=18, cuda="13.0", architectures=["89"], runs_on=["8.9"])
    file = tmp_path / "row.json"
    file.write_text(json.dumps(row))
    return file


@pytest.fixture
def ask(row_file, capsys):
    """Return a function that asks a file as the command line does."""

    def run(file, *words):
        code = cli.main(["onnx-facts", "--row-file", str(row_file), "--onnx", str(file), *words])
        out = capsys.readouterr()
        return json.loads(out.out) if code == 0 else (code, out.err)

    return run


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    file = tmp_path_factory.mktemp("masked") / "model.onnx"
    export_onnx(Masked().eval(), (torch.rand(3, 3),), ["x"], ["y"], "dynamo", 18, file)
    return file


@pytest.mark.parametrize("by", ["name", "number", "op"])
def test_a_node_leads_to_its_python_line(by, masked, ask):
    nodes = onnx.load(masked).graph.node
    number = next(index for index, node in enumerate(nodes) if node.op_type == "NonZero")
    words = {
        "name": ["--node", nodes[number].name],
        "number": ["--number", str(number), "--op", "NonZero"],
        "op": ["--op", "NonZero"],
    }
    (found,) = ask(masked, *words[by])["nodes"]
    assert found["node"] == nodes[number].name
    assert "test_onnx_facts.py" in found["origin"]
    assert "return image[image > 0.5]" in found["origin"]


def test_node_number_of_another_op_is_ignored(masked, ask):
    facts = ask(masked, "--number", "0", "--op", "NonZero")
    assert [node["op"] for node in facts["nodes"]] == ["NonZero"]


def test_five_nodes_are_named_and_the_rest_counted(tmp_path, ask):
    names = [f"t{index}" for index in range(9)]
    graph = helper.make_graph(
        [helper.make_node("Relu", [a], [b], name=b) for a, b in itertools.pairwise(names)],
        "graph",
        [helper.make_tensor_value_info("t0", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("t8", TensorProto.FLOAT, [1])],
    )
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph), file)
    facts = ask(file, "--op", "Relu")
    assert (len(facts["nodes"]), facts["more"]) == (5, 3)


@pytest.mark.parametrize("name", ["/my block (2)/Relu", "/block.1/Relu", "node_relu_3"])
def test_node_of_any_name_is_found_in_text(name):
    nodes = [helper.make_node("Relu", ["x"], ["y"], name=one) for one in (name, "/other/Relu", "")]
    words = f"In node 3 with name: {name} and operator: Relu (importRelu): UNSUPPORTED_NODE: x"
    assert nodes_in_words(words, nodes) == nodes[:1]
    assert explain(words)[0].place == Place("Relu", name, 3)
    own = f"refused: boxes tensor must be 3D\n  op: Relu (node {name})"
    assert explain(own)[0].place == Place("Relu", name)


@pytest.mark.parametrize("content", [b"", b"not ONNX at all"])
def test_invalid_onnx_exits_with_2(content, tmp_path, ask):
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    code, said = ask(file)
    assert code == 2
    assert "ONNX" in said
