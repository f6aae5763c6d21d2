"""int8 and fp8: where the Q/DQ nodes are, ranges and their cache."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from small_nets import conv_net, error, pictures, run

from trtyard.core.errors import ConversionError
from trtyard.pipeline.precision import calibration
from trtyard.pipeline.precision.calibration import for_quantizer, ranges_of
from trtyard.pipeline.precision.quantize import to_fp8, to_int8
from trtyard.pipeline.tensorrt.engine import build_engine


@pytest.fixture
def file(tmp_path):
    onnx.save(conv_net(), str(tmp_path / "model.onnx"))
    return tmp_path / "model.onnx"


def quantized(file, kept=(), method="max"):
    ranges = ranges_of(file, pictures(), "data", method, None)
    return to_int8(file, for_quantizer(ranges), kept)


def test_inputs_and_weights_get_pairs_biases_and_results_do_not(file, tmp_path):
    result = quantized(file)
    onnx.checker.check_model(result.model, full_check=True)
    assert result.reduced == 2
    made_by = {name: node for node in result.model.graph.node for name in node.output}
    for node in result.model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            kinds = [getattr(made_by.get(name), "op_type", "") for name in node.input]
            assert kinds == ["DequantizeLinear", "DequantizeLinear", ""]
        elif node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            assert "DequantizeLinear" not in {
                getattr(made_by.get(n), "op_type", "") for n in node.input
            }
    assert [each.domain for each in result.model.opset_import] == [""]
    (inputs,) = pictures(1)
    (whole,) = run(onnx.load(str(file)), inputs, tmp_path)
    (reduced,) = run(result.model, inputs, tmp_path, is_fused=False)
    assert 0 < error(whole, reduced) < 0.05


def test_weights_have_symmetric_scales_per_channel(file):
    model = quantized(file).model
    values = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            assert not values[node.input[2]].any()
            number = values[node.input[1]].size
            assert number == 1 or node.input[0] in values
            if node.input[0] == "w":
                assert values[node.input[1]].shape == (8,)


def test_kept_nodes_are_left_out(file):
    result = quantized(file, ["conv"])
    assert result.reduced == 1
    conv = next(node for node in result.model.graph.node if node.op_type == "Conv")
    assert list(conv.input) == ["x", "w", "b"]
    with pytest.raises(ConversionError, match="no node can be quantized"):
        quantized(file, ["conv", "head"])


def test_fp8_has_the_same_ranges_and_the_opset_that_knows_it(file, tmp_path):
    int8 = quantized(file).model
    fp8 = to_fp8(int8)
    onnx.checker.check_model(fp8, full_check=True)
    assert fp8.opset_import[0].version == 19
    left = {each.name: each for each in int8.graph.initializer}
    right = {each.name: each for each in fp8.graph.initializer}
    assert right["x_zero_point"].data_type == TensorProto.FLOAT8E4M3FN
    scales = [float(numpy_helper.to_array(each["x_scale"])) for each in (left, right)]
    assert scales[0] * 127 == pytest.approx(scales[1] * 448)
    (inputs,) = pictures(1)
    (whole,) = run(onnx.load(str(file)), inputs, tmp_path)
    (reduced,) = run(fp8, inputs, tmp_path, is_fused=False)
    assert 0 < error(whole, reduced) < 0.1


def test_both_become_engines(file, tmp_path):
    int8 = quantized(file).model
    for name, model in (("int8", int8), ("fp8", to_fp8(int8))):
        onnx.save(model, str(tmp_path / f"{name}.onnx"))
        facts = build_engine(tmp_path / f"{name}.onnx", tmp_path / f"{name}.engine", precision=name)
        assert facts.layers > 0


@pytest.mark.parametrize("method", ["max", "percentile", "entropy"])
def test_each_method_finds_the_ranges_of_what_is_quantized(file, method):
    found = ranges_of(file, pictures(), "data", method, None).by_tensor
    assert sorted(found) == ["f", "x"]
    low, high = found["x"]
    largest = max(np.abs(each["x"]).max() for each in pictures())
    assert -largest <= low < 0 < high <= largest * 1.001
    if method == "max":
        assert max(-low, high) == pytest.approx(largest)


def test_ranges_are_cached_by_file_data_and_method(file, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = ranges_of(file, pictures(), "data", "max", cache)
    assert not first.cached
    monkeypatch.setattr(calibration, "_calibrator", None)  # a second calibration would raise
    again = ranges_of(file, pictures(), "data", "max", cache)
    assert again.cached
    assert again.by_tensor == first.by_tensor
    for other in (("other", "max"), ("data", "entropy")):
        with pytest.raises(ConversionError, match="cannot calibrate"):
            ranges_of(file, pictures(), *other, cache)
    onnx.save(conv_net(seed=2), str(file))
    with pytest.raises(ConversionError, match="cannot calibrate"):
        ranges_of(file, pictures(), "data", "max", cache)


def test_a_damaged_entry_of_the_cache_is_made_again(file, tmp_path):
    cache = tmp_path / "cache"
    first = ranges_of(file, pictures(), "data", "max", cache)
    (entry,) = cache.iterdir()
    for text in ("", "[]", json.dumps({"schema": 0, "ranges": {}}), '{"schema": 1}'):
        entry.write_text(text)
        again = ranges_of(file, pictures(), "data", "max", cache)
        assert (again.cached, again.by_tensor) == (False, first.by_tensor)
