"""The range of every tensor that is quantized, from samples; cached by content."""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import onnx

from trtyard.core.errors import ConversionError
from trtyard.core.files import sha256_of, write_json
from trtyard.pipeline.precision.calibration_data import Sample
from trtyard.pipeline.precision.quantize import OP_TYPES, quantizable, quiet_quantizer

_SCHEMA = 1  # of the cache's files; another one when the ranges come out differently


class Ranges(NamedTuple):
    """The smallest and largest value of each tensor."""

    by_tensor: Dict[str, Tuple[float, float]]
    cached: bool


def ranges_of(
    file: Path, samples: Sequence[Sample], data_sha256: str, method: str, cache: Optional[Path]
) -> Ranges:
    """Return the ranges of the model in ``file`` on ``samples``, from the cache if it has them.

    Args:
        file: the model.
        samples: the model's inputs.
        data_sha256: the hash of ``samples``.
        method: "percentile", "entropy" or "max".
        cache: the folder of the cache; None for no cache.

    Raises:
        ConversionError: ONNX Runtime cannot run the model, or a tensor has no finite range.
    """
    key = _key(file, data_sha256, method)
    entry = None if cache is None else cache / f"{key}.json"
    found = None if entry is None else _read(entry)
    if found is not None:
        return Ranges(found, True)
    ranges = _computed(file, samples, method)
    if entry is not None:
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_json(entry, {"schema": _SCHEMA, "ranges": ranges})
    return Ranges(ranges, False)


def for_quantizer(ranges: Ranges) -> Any:
    """Return the ranges as onnxruntime's quantizer takes them."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

    pairs = {
        name: (np.array(low, np.float32), np.array(high, np.float32))
        for name, (low, high) in ranges.by_tensor.items()
    }
    return TensorsData(CalibrationMethod.MinMax, pairs)


def _key(file: Path, data_sha256: str, method: str) -> str:
    import onnxruntime

    parts = [str(_SCHEMA), sha256_of(file), data_sha256, method, onnxruntime.__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _read(entry: Path) -> Optional[Dict[str, Tuple[float, float]]]:
    """Return the ranges in a file of the cache; None if there is none or it is damaged."""
    try:
        value = json.loads(entry.read_text(encoding="utf-8"))
        if value["schema"] != _SCHEMA:
            return None
        return {name: (float(low), float(high)) for name, (low, high) in value["ranges"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class _Reader:
    """Samples as onnxruntime's calibrators read them."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> Optional[Sample]:
        return next(self._samples, None)


def _computed(file: Path, samples: Sequence[Sample], method: str) -> Dict[str, Tuple[float, float]]:
    inputs = [each.name for each in onnx.load(str(file), load_external_data=False).graph.input]
    given: List[Sample] = [
        {name: value for name, value in sample.items() if name in inputs} for sample in samples
    ]
    try:
        with quiet_quantizer(), tempfile.TemporaryDirectory() as folder:
            calibrator = _calibrator(file, str(Path(folder, "augmented.onnx")), method)
            # Histograms keep every tensor of what they are given, so they get one at a time. The
            # largest values do not, and onnxruntime 1.18 cannot add to earlier ones.
            for part in [given] if method == "max" else [[sample] for sample in given]:
                calibrator.collect_data(_Reader(part))
            found = calibrator.compute_data()
    except Exception as error:  # its exceptions share no base class of their own
        raise ConversionError(
            f"ONNX Runtime cannot calibrate {file.name}: {error}", log=str(error)
        ) from error
    ranges = {name: _range(value) for name, value in found.data.items()}
    bad = [name for name, pair in ranges.items() if not np.isfinite(pair).all()]
    if bad:
        raise ConversionError(
            f"calibration gives no finite range for {', '.join(bad[:3])}",
            "check that the model's values are finite on the calibration data",
        )
    return ranges


def _calibrator(file: Path, augmented: str, method: str) -> Any:
    """Return onnxruntime's calibrator for the inputs of the nodes that can be quantized."""
    from onnxruntime.quantization import calibrate

    common = {"augmented_model_path": augmented, "symmetric": True}
    calibrator: Any
    if method == "max":
        calibrator = calibrate.MinMaxCalibrater(file, list(OP_TYPES), **common)
    elif method == "entropy":
        # The numbers of bins are those of onnxruntime's create_calibrator.
        calibrator = calibrate.EntropyCalibrater(
            file, list(OP_TYPES), num_bins=128, num_quantized_bins=128, **common
        )
    else:
        calibrator = calibrate.PercentileCalibrater(
            file, list(OP_TYPES), num_bins=2048, percentile=99.999, **common
        )
    select = calibrator.select_tensors_to_calibrate

    def only_inputs(model: onnx.ModelProto) -> Tuple[Any, Any]:
        """Leave out results: they get no Q/DQ nodes, and a histogram of each takes time."""
        tensors, infos = select(model)
        wanted = {node.input[0] for node in quantizable(model.graph)}
        return type(tensors)(sorted(set(tensors) & wanted)), infos

    calibrator.select_tensors_to_calibrate = only_inputs
    calibrator.augment_graph()
    calibrator.create_inference_session()
    return calibrator


def _range(data: Any) -> Tuple[float, float]:
    low, high = data.range_value
    return float(np.min(low)), float(np.max(high))
