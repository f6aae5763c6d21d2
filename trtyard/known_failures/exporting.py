"""Failures of the export from a torch module to an ONNX file."""

from trtyard.known_failures.entry import KnownFailure

EXPORTING: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="output-of-own-class",
        patterns=(
            r"Tracer cannot infer type of",
            r"(?:But got|received an input of) unsupported type:? \w+",
            r"in output, which is not a known type",
            r"Only tuples, lists and Variables (?:are )?supported as JIT inputs/outputs",
            r"tuple appears in op that does not forward tuples",
        ),
        affected=("any",),
        cause="the model returns an object of its own class, and exporters do not look inside it",
        hint="return tensors, or tuples of tensors, when exporting",
        sources=(
            "https://github.com/pytorch/tvm/issues/74",
            "https://github.com/onnx/onnx/issues/2258",
            "measured: torch 1.4.0, and both exporters of torch 2.13.0",
        ),
    ),
    KnownFailure(
        name="attention-strides",
        patterns=(r"Cannot view a tensor with shape .* and strides .* as a tensor with shape",),
        affected=("exporter == dynamo",),
        cause="the exporter replaces scaled_dot_product_attention by ops whose result has other "
        "strides, and the view() after it does not fit them",
        hint="use the plain attention: for a model of transformers "
        'attn_implementation="eager", also as a key of config.json for hf:FOLDER; for other '
        "models reshape() in place of view() or of contiguous().view()",
        sources=(
            "https://github.com/pytorch/pytorch/issues/136543",
            "https://github.com/pytorch/pytorch/issues/141107",
            "measured: T5 of transformers 5.24.0 with torch 2.13.0",
        ),
    ),
    KnownFailure(
        name="library-op-without-symbolic",
        patterns=(
            r"Couldn't export operator (?P<op>(?!aten::)\w+::\w+)",
            r"operator with unrecognized namespace (?P<op>\w+::\w+)",
        ),
        affected=("any",),
        cause="the op is in a C++ library and has no ONNX form at this opset",
        hint="torchvision's ops have an ONNX form from opset 11 on. For others, register one with "
        "torch.onnx.register_custom_op_symbolic before exporting",
        sources=(
            "https://github.com/pytorch/pytorch/issues/24817",
            "measured: torch 1.4.0 and torchvision 0.5.0 at opset 10; torch 2.13.0",
        ),
    ),
    KnownFailure(
        name="function-without-symbolic",
        patterns=(r"Couldn't export Python operator (?P<op>\w+)",),
        affected=("torch < 1.13",),  # later exporters inline the function
        cause="a torch.autograd.Function has no symbolic method, which defines its ONNX form",
        hint="add a static method symbolic(g, ...) to it that returns g.op(...)",
        sources=(
            "https://github.com/open-mmlab/mmdetection/issues/2845",
            "https://github.com/VDIGPKU/CBNet_pytorch/issues/10",
            "https://github.com/pytorch/pytorch/issues/90263",
            "measured: torch 1.4.0 fails, torch 2.13.0 takes it apart",
        ),
    ),
    KnownFailure(
        name="opset-unknown-to-torch",
        patterns=(r"Unsupported (?:ONNX opset version|onnx_opset_version): (?:\d+)",),
        cause="this torch cannot write that opset: 1.4 goes up to 11, 1.7 to 12, 1.11 to 15, 1.12 "
        "to 16, 1.13 to 17, later releases further",
        hint="choose an opset that this torch can write (opset_version=, --opset), or use a newer "
        "torch",
        sources=(
            "https://github.com/rhasspy/piper/issues/19",
            "https://github.com/microsoft/onnxruntime/issues/10242",
            "https://github.com/facebookresearch/segment-anything/issues/295",
            "https://github.com/pytorch/pytorch/pull/107829",
            "measured: torch 1.4.0 at opset 12, torch 2.2.2 at opset 30",
        ),
    ),
    KnownFailure(
        name="model-over-2-gib",
        patterns=(
            r"exceeds? maximum protobuf size of 2\s?GB",
            r"larger than the 2GiB limit imposed by the protobuf",
            r"Exceeded maximum protobuf size of 2GB",
            r"one ONNX file holds 2 GiB",
        ),
        affected=("any",),
        cause="one ONNX file holds at most 2 GiB. A larger model needs a second file for the "
        "weights",
        hint="export to a path, not to a buffer (onnx.save(..., save_as_external_data=True) for a "
        "model in memory), and keep both files together. convert writes only one file and stops "
        "here",
        sources=(
            "https://github.com/microsoft/onnxruntime/issues/7840",
            "https://github.com/pytorch/pytorch/issues/132205",
            "https://github.com/onnx/onnx/issues/4394",
            "https://github.com/pytorch/pytorch/issues/19277",
        ),
    ),
    KnownFailure(
        name="value-decides-shape-or-branch",
        patterns=(
            r"GuardOnDataDependentSymNode",
            r"[Cc]ould not guard on data-dependent expression",
        ),
        affected=("exporter == dynamo",),
        cause="a shape or a branch depends on tensor values, which are unknown during export",
        hint="use fixed sizes (padding and a count), masks instead of boolean indexing, "
        "torch.where instead of if. The TorchScript exporter gives no error and freezes the value",
        sources=(
            "https://github.com/pytorch/pytorch/issues/143222",
            "https://github.com/pytorch/pytorch/issues/153955",
            "measured: torch 2.13.0",
        ),
    ),
    KnownFailure(
        name="script-module",
        patterns=(
            r"Exporting a ScriptModule is not supported",
            r"Tried to trace <__torch__[^\n]{0,200}not part of the active trace",
        ),
        affected=("any",),
        cause="torch.export does not accept TorchScript, and the TorchScript exporter accepts it "
        "only as the whole model, not inside another module",
        hint="export the nn.Module that it was made from. A whole TorchScript model that returns "
        "a tensor or a tuple also works with torch.onnx.export(..., dynamo=False), as convert does",
        sources=("measured: torch 1.4.0, 2.2.2 and 2.13.0",),
    ),
    KnownFailure(
        name="quantized-module",
        patterns=(r"PackedParamsBase[^\n]{0,120}__obj_flatten__",),
        affected=("any",),
        cause="torch's quantized modules keep their weights packed for torch's own kernels",
        hint="convert the model as it was before torch.ao.quantization. TensorRT reads its types "
        "from QuantizeLinear and DequantizeLinear in the ONNX file, which other tools add",
        sources=("measured: torch 2.13.0",),
    ),
    KnownFailure(
        name="packed-sequence",
        patterns=(
            r"zeros\(\): argument 'size' failed to unpack the object at pos \d+ with error "
            r"\"type must be tuple of ints,but got FakeTensor\"",
            r"_pack_padded_sequence",
        ),
        cause="nn.utils.rnn.pack_padded_sequence turns the values of the lengths into sizes, and "
        "the recurrent layer's state takes its size from them",
        hint="run the layer on the padded sequences and mask its result: y * (torch.arange(T) < "
        "n[:, None])[..., None]. A forward layer gives the same result. A backward one starts in "
        "the padding: reverse each sequence with gather first",
        sources=("measured: torch 2.13.0",),
    ),
    KnownFailure(
        name="qat-module",
        patterns=(
            r"(?P<op>aten\._fused_moving_avg_obs_fq_helper\w*)",
            r"(?P<op>aten::_?fused_moving_avg_obs_fq_helper\w*|aten::fused_moving_avg_obs_fake_quant)",
        ),
        affected=("any",),
        cause="the training modules of torch.ao.quantization observe ranges and quantize in one "
        "op, which ONNX does not have",
        hint="replace each of them by torch.fake_quantize_per_tensor_affine "
        "(torch.fake_quantize_per_channel_affine for weights) with the scale and zero point of "
        "its calculate_qparams(). These become QuantizeLinear and DequantizeLinear. TensorRT "
        "needs int8 and zero points of 0",
        sources=("measured: torch 2.13.0",),
    ),
    KnownFailure(
        name="value-leaves-torch",
        patterns=(r"\.numpy\(\) is not supported for tensor subclasses",),
        affected=("exporter == dynamo",),
        cause="forward passes a tensor to NumPy, and exporters do not see what NumPy computes",
        hint="compute it with torch's own functions. The TorchScript exporter gives no error and "
        "freezes the value",
        sources=("measured: torch 2.13.0",),
    ),
    KnownFailure(
        name="module-converted-in-forward",
        patterns=(r"Cannot swap t[12] because it has weakref associated with it",),
        cause="forward converts or moves a module on every run: .half(), .float(), .to() or "
        ".cuda() of a module changes its parameters, which torch.export does not allow",
        hint="convert the module once, where the model is built. In forward convert only tensors: "
        "self.m(x.half())",
        sources=("measured: torch 2.13.0",),
    ),
    KnownFailure(
        name="attribute-not-constant",
        patterns=(r"Failed to export an ONNX attribute[^\n]{0,40}, since it's not constant",),
        affected=("exporter == torchscript",),
        cause="the trace computes a value from a shape or a tensor that is an attribute in ONNX "
        "at this opset (a kernel size, axes, the k of a top-k)",
        hint="make it a Python number: int(x.shape[2]). Or export at opset 11 or later, which has "
        "fewer such attributes",
        sources=(
            "https://github.com/onnx/tutorials/issues/137",
            "https://github.com/pytorch/pytorch/issues/22960",
            "https://github.com/gmalivenko/pytorch2keras/issues/98",
            "measured: torch 1.4.0, torchvision's fasterrcnn_resnet50_fpn at opset 10",
        ),
    ),
    KnownFailure(
        name="op-in-later-opset",
        patterns=(
            r"Exporting the operator '?(?P<op>[\w:.]+)'? to ONNX opset version \d+ is not "
            r"supported\. Support for this operator was added in version \d+",
            r"ONNX export of (?:operator )?(?P<op>\w+) in opset \d+\. Please try opset version \d+",
        ),
        affected=("any",),
        cause="the op has an ONNX form only in a later opset than the chosen one",
        hint="export at the opset that the message names. A row's opset is in versions.toml",
        sources=(
            "https://github.com/pulp-platform/nemo/issues/16",
            "https://github.com/pytorch/pytorch/issues/46237",
            "https://github.com/huggingface/optimum/pull/1331",
            "measured: torch 2.13.0, aten::tril at opset 13",
        ),
    ),
    KnownFailure(
        name="attention-fast-path",
        patterns=(
            r"(?P<op>aten::_native_multi_head_attention)' to ONNX opset version \d+ is not",
            r"(?P<op>aten::_transformer_encoder_layer_fwd)' to ONNX opset version \d+ is not",
        ),
        affected=("exporter == torchscript",),
        cause="in eval mode without gradients, nn.MultiheadAttention and "
        "nn.TransformerEncoderLayer run as one fused op (the fast path), which has no ONNX form",
        hint="call torch.backends.mha.set_fastpath_enabled(False) before exporting. torch 2.2 and "
        "older have no such switch: export outside torch.no_grad(), with parameters that require "
        "gradients. convert does this",
        sources=(
            "https://github.com/pytorch/pytorch/issues/143107",
            "https://github.com/onnx/onnx/issues/6532",
            "https://github.com/YvanYin/GoalFlow/issues/23",
            "measured: torch 2.2.2, 2.12.0 and 2.13.0; torchvision's vit_b_16",
        ),
    ),
    KnownFailure(
        name="in-place-copy",
        patterns=(
            r"Exporting the operator '?(?P<op>aten::copy)'? to ONNX opset version \d+ is not",
        ),
        affected=("exporter == torchscript",),
        cause="copy_() fills a buffer or another tensor from outside, which a trace cannot record",
        hint="return a new value instead of filling a tensor: state = 0.5 * state + x. A state "
        "that must be kept becomes an input and an output",
        sources=("measured: torch 2.2.2 and 2.13.0",),
    ),
    KnownFailure(
        name="op-without-onnx-form",
        patterns=(
            r"No ONNX function found for <OpOverload\(op='(?P<op>[\w.]+)'",
            r"No ONNX function found",
            r"Exporting the operator '?(?P<op>[\w:.]+)'? to ONNX opset version \d+ is not",
            r"ONNX export failed on ATen operator (?P<op>\w+) because",
            r"Couldn't export operator (?P<op>aten::\w+)",
            r"in get_registered_op\n(?:[^\n]+\n)?KeyError: '(?P<op>\w+)'",  # torch 1.4
            r"to ONNX opset version \d+ is not supported",
        ),
        affected=("any",),
        cause="ONNX has no form of this op, or this torch release does not know it",
        hint="replace it at that line with ops that have one. A newer torch or opset may support "
        "it",
        sources=(
            "https://github.com/pytorch/pytorch/issues/49005",
            "https://github.com/pytorch/pytorch/issues/131635",
            "measured: torch 1.4.0, and both exporters of torch 2.13.0",
        ),
        general=True,
    ),
    KnownFailure(
        name="custom-op-without-fake",
        patterns=(r"UnsupportedOperatorException: (?P<op>[\w.]+)", r"There was no fake impl"),
        affected=("exporter == dynamo",),
        cause="torch.export runs the model without values, and a custom op has no implementation "
        "for that",
        hint="register one with torch.library.register_fake: it returns an empty tensor of the "
        "op's output shape",
        sources=("measured: torch 2.13.0",),
    ),
    KnownFailure(
        name="custom-op-without-schema",
        patterns=(r"No schema registered for '?(?P<op>\w+)",),
        affected=("exporter == dynamo",),
        cause="the dynamo exporter asks onnx for the schema of every node that it writes, and "
        "onnx has none for this op",
        hint="call onnx.defs.register_schema for the op before exporting",
        sources=("measured: torch 2.13.0, onnxscript 0.7.2",),
    ),
    KnownFailure(
        name="device-in-model",
        patterns=(
            r"Expected all tensors to be on the same device",
            r"Found no NVIDIA driver on your system",
            r"Torch not compiled with CUDA enabled",
        ),
        affected=("any",),
        cause="the model creates tensors on a fixed device, but exports run on the CPU",
        hint="create them on the input's device: device=x.device instead of 'cuda' or .cuda()",
        sources=("measured: torch 2.13.0 without a driver",),
    ),
    KnownFailure(
        name="protobuf-too-new",
        patterns=(
            r"Descriptors can(?:not)? ?not be created directly",
            r"Descriptors cannot be created",
        ),
        cause="this onnx was generated for protobuf 3, but protobuf 4 or newer is installed",
        hint="pin protobuf < 4 (3.20.3, or 3.19.6 on Python 3.6), as the rows' locks do",
        sources=(
            "https://github.com/onnx/onnx/issues/4222",
            "measured: onnx 1.6.0 on Python 3.7",
        ),
    ),
    KnownFailure(
        name="roi-align-aligned-before-opset-16",
        patterns=(r"ROIAlign with aligned=True is (?:only|not) supported in",),
        affected=("opset < 16",),
        cause="RoiAlign before opset 16 has no half_pixel mode, so every roi is off by half a "
        "pixel",
        hint="export at opset 16 or later",
        sources=(
            "https://github.com/pytorch/vision/pull/6704",
            "measured: torch 2.13.0 at opset 15",
        ),
        warning=True,
    ),
    KnownFailure(
        name="resize-before-opset-11",
        patterns=(
            r"Upsample/Resize operator did not match Pytorch's Interpolation until opset 11",
        ),
        affected=("opset < 11",),
        cause="Resize before opset 11 has no coordinate_transformation_mode, so the file "
        "interpolates differently from PyTorch. Only the results show it",
        hint="export at opset 11 or later. Before that, only nearest by a whole factor gives "
        "equal results",
        sources=(
            "measured: torch 1.4.0 at opsets 9 and 10; torchvision's fcn_resnet50 is off by two "
            "thirds of its largest value there",
        ),
        warning=True,
    ),
    KnownFailure(
        name="tensor-frozen",
        patterns=(r"torch\.(?:as_tensor|from_numpy|tensor) results are registered as constants",),
        affected=("exporter == torchscript",),
        cause="the trace records the values of this one run, and the file returns them for every "
        "input",
        hint="do not convert tensors: guard the call with isinstance(x, torch.Tensor)",
        sources=(
            "https://github.com/facebookresearch/maskrcnn-benchmark/issues/922",
            "measured: torch 1.4.0 and the TorchScript exporter of torch 2.13.0",
        ),
        warning=True,
    ),
    KnownFailure(
        name="in-place-change-lost",
        patterns=(r"live references to the data region being modified when tracing in-place",),
        affected=("exporter == torchscript",),
        cause="the trace loses an in-place change of a slice or a view. The file has the values "
        "from before the change, for example boxes that are all 0 or not clamped",
        hint="build the result from new tensors: torch.stack and flatten instead of assignment to "
        "slices, x.clamp(...) instead of x.clamp_(...)",
        sources=("measured: torch 1.4.0",),
        warning=True,
    ),
    KnownFailure(
        name="python-value-frozen",
        patterns=(
            r"Converting a tensor to a (?:Python \w+|NumPy array) might cause the trace",
            r"Iterating over a tensor might cause the trace",
            r"Using len to get tensor shape might cause the trace",
        ),
        affected=("exporter == torchscript",),
        cause="a value left the trace into Python, and the file keeps its value from this one run",
        hint="harmless for shapes that never change. Otherwise use tensor operations: torch.where "
        "instead of if, x.shape[0] instead of len(x)",
        sources=(
            "https://github.com/facebookresearch/detectron2/issues/4907",
            "https://github.com/Project-MONAI/MONAI/issues/7560",
            "measured: torch 1.4.0 and the TorchScript exporter of torch 2.13.0",
        ),
        general=True,
        warning=True,
    ),
)
