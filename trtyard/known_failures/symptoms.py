"""Failures that show only in the results, without an error."""

from trtyard.known_failures.entry import KnownFailure

SYMPTOMS: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="results-frozen",
        symptom="the same result for every input; NMS results baked in as constants",
        affected=("exporter == torchscript",),
        cause="the tracer did not see inside an op, or a value left the trace. The file contains "
        "the value of the traced run as a constant",
        hint="give the op a symbolic (torch.onnx.register_custom_op_symbolic), as "
        "trtyard.pipeline.ops has. convert traces with other values than it compares, so a frozen "
        "value shows as a difference",
        sources=("https://github.com/NVIDIA/TensorRT/issues/1134", "measured: torch 1.4.0"),
    ),
    KnownFailure(
        name="size-frozen",
        symptom="right at the size of the trace, wrong or refused at other sizes",
        affected=("any",),
        cause="a size left the tensor as a Python number, so the trace holds it as a constant: "
        "int(x.shape[0]), len(x), x.size(0) stored in an attribute, a tensor that is made once and "
        "kept",
        hint="compute with x.shape[i] where it is used: x.flatten(1) or x.reshape(x.shape[0], -1) "
        "in place of x.reshape(int(x.shape[0]), -1); or fix that dimension in --input",
        sources=("measured: torch 2.13.0, TorchScript exporter",),
    ),
    KnownFailure(
        name="results-vary",
        symptom="another result each time for the same input; the runtimes never agree",
        affected=("any",),
        cause="forward draws random numbers (active dropout, noise), or keeps state between runs "
        "in an attribute that is not a buffer",
        hint="disable it if self.training is False (F.dropout takes training=self.training). Pass "
        "noise as an input. Pass a state as an input and return it as an output",
        sources=("measured: torch 2.13.0 and 1.4.0",),
    ),
    KnownFailure(
        name="left-in-training",
        symptom="the runtimes differ; batch norms or dropouts that stay in training mode",
        affected=("any",),
        cause="a module stays in training mode after eval(): its own train() prevents it, or "
        "forward switches it back. Its statistics then come from the input, but exporters write "
        "the learned ones",
        hint="let eval() reach every module before exporting. For a frozen batch norm, set its "
        "statistics and leave it in eval mode",
        sources=("measured: torch 2.13.0, both exporters",),
    ),
    KnownFailure(
        name="boxes-all-zero",
        symptom="boxes all 0",
        affected=("exporter == torchscript",),
        cause="the trace loses an assignment to slices of a new tensor",
        hint="torch.stack(..., dim=-1).flatten(-2) instead of boxes[:, 0::4] = ...",
        sources=("measured: torch 1.4.0",),
    ),
    KnownFailure(
        name="boxes-outside",
        symptom="boxes outside the picture",
        affected=("exporter == torchscript",),
        cause="the trace loses an in-place clamp of a view",
        hint="x = x.clamp(min=0, max=width - 1) instead of x.clamp_(...)",
        sources=("measured: torch 1.4.0",),
    ),
    KnownFailure(
        name="in-place-write-lost",
        symptom="right in PyTorch; in the file an assignment such as x[..., 0] = y has no effect",
        affected=("any",),
        cause="the exporter saw no write: the assignment went through a view or a copy that the "
        "trace does not follow, or the code skips it while it is exported",
        hint="make a new tensor instead: torch.stack, torch.cat or torch.where in place of "
        "x[...] = y",
        sources=("measured: torch 2.2.2 and 2.13.0, ./run bisect",),
    ),
    KnownFailure(
        name="value-frozen",
        symptom="a node reads a constant that PyTorch computes from the input",
        affected=("any",),
        cause="a value left the tensors while the model was exported: float(x), x.item(), "
        "x.numpy(), torch.tensor(...) of a number, or another branch during the export",
        hint="compute with tensors: x * y.mean() in place of x * float(y.mean())",
        sources=("measured: torch 2.2.2 and 2.13.0, ./run bisect",),
    ),
    KnownFailure(
        name="operator-lost",
        symptom="an operator of PyTorch has no node in the file",
        affected=("any",),
        cause="the exporter left the line out: it ran under another condition, or outside of the "
        "trace",
        hint="look for conditions on is_in_onnx_export() or is_exporting(), on values, or on "
        "self.training at that line",
        sources=("measured: torch 2.13.0, ./run bisect",),
    ),
    KnownFailure(
        name="attribute-differs",
        symptom="one node gives PyTorch's value with another attribute",
        affected=("any",),
        cause="the file was edited, or the exporter wrote a default that is not PyTorch's",
        hint="export again; if the difference stays, report it with the files in bisect/",
        sources=("measured: torch 2.13.0, edited files and ./run bisect",),
    ),
    KnownFailure(
        name="interpolation-differs",
        symptom="a Resize or GridSample interpolates at other positions or in another way",
        affected=("any",),
        cause="mode, nearest_mode or coordinate_transformation_mode is not what PyTorch computes",
        hint="export at a later opset, or call interpolate with an explicit align_corners; "
        "mode='nearest-exact' is round_prefer_floor with half_pixel",
        sources=("measured: torch 2.13.0, edited files and ./run bisect",),
    ),
    KnownFailure(
        name="repeated-indices",
        symptom="sums over repeated indices are too small: index_add, index_put(accumulate=True)",
        affected=("exporter == torchscript",),
        cause="the exporter writes ScatterND without a sum, which keeps one value of each index",
        hint="x.scatter_add(dim, index expanded to y's shape, y) in place of x.index_add(dim, "
        "index, y). trtyard's row 8.6 exports sums, at opset 16 and newer",
        sources=(
            "https://github.com/pytorch/pytorch/issues/61034",
            "measured: torch 2.2.2, opset 17",
        ),
    ),
    KnownFailure(
        name="negative-indices",
        symptom="x[tensor, :, tensor] takes wrong elements if an index is negative",
        affected=("exporter == torchscript",),
        cause="the exporter computes a flat position from the indices and does not add the size "
        "to negative ones",
        hint="make the indices positive: x[i, :, j % x.shape[2]]",
        sources=("measured: torch 2.2.2, opset 17",),
    ),
    KnownFailure(
        name="rounded-toward-zero",
        symptom="x // n and x >> n are one too large where the result is negative",
        affected=("exporter == torchscript",),
        cause="the exporter writes a division that rounds toward zero; PyTorch rounds down",
        hint="torch.div(x, n, rounding_mode='floor'). trtyard's row 8.6 exports x >> n right",
        sources=("measured: torch 2.2.2, opset 17",),
    ),
    KnownFailure(
        name="softplus-threshold",
        symptom="softplus differs by up to 0.1 above its threshold",
        affected=("exporter == torchscript",),
        cause="the exporter leaves out the threshold, above which PyTorch returns x itself",
        hint="torch.where(beta * x > threshold, x, F.softplus(x, beta=beta)). trtyard's row 8.6 "
        "exports the threshold",
        sources=("measured: torch 2.2.2, opset 17",),
    ),
    KnownFailure(
        name="average-pool-ceil",
        symptom="the last value of each row of avg_pool with ceil_mode=True is too small",
        affected=("exporter == torchscript",),
        cause="the last window reaches beyond the padding. PyTorch does not count the places "
        "beyond it, ONNX Runtime 1.18 does",
        hint="count_include_pad=False, or ceil_mode=False",
        sources=("measured: torch 2.2.2, opset 17, ONNX Runtime 1.18.1",),
    ),
    KnownFailure(
        name="scatter-mean",
        symptom="scatter_reduce(reduce='mean') replaces values instead of taking their mean",
        affected=("exporter == dynamo",),
        cause="ONNX has no reduction mean; the exporter writes ScatterElements without a reduction",
        hint="divide two sums: zeros.scatter_add(dim, index, x) / zeros.scatter_add(dim, index, "
        "ones)",
        sources=("measured: torch 2.13.0, opset 18",),
    ),
    KnownFailure(
        name="slower-than-pytorch",
        symptom="the engine is slower than PyTorch; few boxes alive among many padded",
        affected=("any",),
        cause="padded boxes go through the box head like real ones",
        hint="keep fewer proposals: --top-n. The report shows real and padded counts",
        sources=(
            "https://github.com/open-mmlab/mmdeploy/issues/809",
            "https://github.com/NVIDIA/TensorRT/issues/4248",
        ),
    ),
    KnownFailure(
        name="rois-half-a-pixel-off",
        symptom="rois half a pixel off; features shifted",
        affected=("opset < 16",),
        cause="RoiAlign before opset 16 has no coordinate_transformation_mode. The file does not "
        "define it, and each runtime chooses its own",
        hint="export at opset 16 or later, or use trtyard.pipeline.ops.roi_align",
        sources=(
            "https://github.com/pytorch/vision/pull/4692",
            "https://github.com/pytorch/vision/pull/6704",
        ),
    ),
    KnownFailure(
        name="keypoint-scores-of-the-first",
        symptom="keypoints_scores of torchvision's Keypoint R-CNN differ, but for each first one",
        affected=("torch < 1.6",),
        cause="torchvision before 0.7 exports a form that reads every keypoint's score at the "
        "first keypoint's position. The positions are right",
        hint="use a newer row, or ignore the output keypoints_scores",
        sources=(
            "https://github.com/pytorch/vision/pull/2312",
            "measured: torchvision 0.5.0",
        ),
    ),
    KnownFailure(
        name="keypoint-of-a-tie",
        symptom="a few keypoints differ by pixels, and no score of a keypoint does",
        affected=("any",),
        cause="a keypoint is the position of its map's largest value. If two positions have the "
        "same value to within rounding, runtimes may choose differently",
        hint="nothing to fix if only a few move and keypoints_scores agree: the network rates "
        "both positions equally",
        sources=(
            "measured: torchvision 0.17.2 and 0.28.0, keypointrcnn_resnet50_fpn with seeded "
            "weights; maps that are the same from right to left",
        ),
    ),
    KnownFailure(
        name="choice-of-a-tie",
        symptom="indices of a top-k, sort or argmax differ, or what is taken at them; the values "
        "are equal",
        affected=("any",),
        cause="among values that are equal or differ only by rounding, each runtime may choose "
        "another one. No order is promised, and either choice is right",
        hint="nothing to fix if any of the equal values is fine. Otherwise make them differ: add "
        "a small multiple of the position before choosing, or sort by a second key",
        sources=("measured: torch 2.13.0 and ONNX Runtime 1.32.0, topk among zeros",),
    ),
    KnownFailure(
        name="shape-by-values",
        symptom="an output has another shape than PyTorch's",
        affected=("any",),
        cause="the output's shape depends on the input's values (lengths, a mask, a count), and "
        "the file has the shape of the traced run",
        hint="keep the shape fixed at its largest possible value (pad_packed_sequence takes "
        "total_length), and add a mask or a count",
        sources=("measured: torch 2.13.0, a traced pad_packed_sequence",),
    ),
    KnownFailure(
        name="checker-segfault",
        symptom="the process dies in onnx.checker.check_model; Segmentation fault",
        patterns=(
            r"Fatal Python error: Segmentation fault[\s\S]{0,400}"
            r"onnx/checker\.py\", line \d+ in check_model",
        ),
        cause="onnx 1.6 and torch 1.4 contain two copies of one library, and torch was imported "
        "first",
        hint="use onnx 1.8.1, as row 7.0's lock does, or import onnx before torch",
        sources=("measured: onnx 1.6.0 with torch 1.4.0 on Python 3.6 and 3.7",),
    ),
)
