"""``export``: a model to ONNX with the row's exporter, and nothing more."""

import argparse

from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.row import Row, exporting


def export_to(row: Row, options: argparse.Namespace) -> int:
    """Write the model to ``options.out``.

    Raises:
        ConversionError: the exporter cannot write it; the message says where and why.
        UsageError: there is no such model, or an option does not fit it.
    """
    model = load_model(options.model, size=options.size, input_shape=options.input)
    row = exporting(row, model.exporter)
    export_onnx(
        model.to_export,
        model.inputs,
        model.input_names,
        model.output_names,
        row.exporter,
        row.opset,
        options.out,
    )
    return 0
