"""Run an engine alone: what the small image is for. Needs neither torch nor onnx."""

import argparse
import statistics
import sys
import zipfile
from pathlib import Path
from typing import Any, Dict, Optional

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.core.files import written_whole
from trtyard.pipeline.row import Row

# Where an image has them.
ROW_FILE = Path("/opt/trtyard/row.json")
PLUGINS = Path("/opt/trtyard/plugins/libtrtyard_plugins.so")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--row-file", type=Path, default=ROW_FILE)
    parser.add_argument("--engine", type=Path, required=True, help="model.engine")
    parser.add_argument("--plugins", type=Path, help="the plugin library (default: the image's)")
    parser.add_argument("--inputs", type=Path, help=".npz, an array for each input by its name")
    parser.add_argument("--seed", type=int, default=0, help="of random inputs, without --inputs")
    parser.add_argument("--repeat", type=int, default=10, help="how many runs are timed")
    parser.add_argument("--out", type=Path, required=True, help=".npz to write the outputs to")


def run(row: Row, options: argparse.Namespace) -> int:
    """Run the engine, write its outputs, print shapes and times.

    Raises:
        EnvironmentLacksError: there is no device that runs this row's engines.
        UsageError: the engine or the inputs cannot be read or do not fit.
    """
    from trtyard.core.cuda_device import usable_device

    if options.repeat < 1:
        raise UsageError("--repeat must be 1 or more")
    if not options.engine.is_file():
        raise UsageError(f"no engine at {options.engine}", "./run convert makes model.engine")
    given = None if options.inputs is None else _read_inputs(options.inputs)
    device, problem = usable_device(row.runs_on)
    if device is None:
        raise EnvironmentLacksError(
            f"the engine cannot run: {problem}",
            "docker run --gpus all, on a machine with a supported GPU and NVIDIA's driver",
        )
    from trtyard.pipeline.tensorrt.runner import open_engine

    with open_engine(options.engine, _library(options.plugins)) as engine:
        inputs = _random(engine.inputs(), options.seed) if given is None else given
        _check_names(inputs, engine.inputs())
        outputs, milliseconds = engine.run(inputs, repeat=options.repeat)
    _write(options.out, outputs)
    for name, value in outputs.items():
        sys.stdout.write(f"{name}: {value.dtype} {list(value.shape)}\n")
    median, least = statistics.median(milliseconds), min(milliseconds)
    sys.stdout.write(f"{device.name}: {len(milliseconds)} runs, median {median:.3f} ms, ")
    sys.stdout.write(f"shortest {least:.3f} ms\n")
    return 0


def _library(named: Optional[Path]) -> Optional[Path]:
    if named is None:
        return PLUGINS if PLUGINS.is_file() else None
    return named


def _read_inputs(file: Path) -> Dict[str, Any]:
    import numpy as np

    try:
        with np.load(str(file), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{file} is not an .npz of plain arrays: {error}") from error


def _random(wanted: Dict[str, Any], seed: int) -> Dict[str, Any]:
    import numpy as np

    generator = np.random.RandomState(seed)
    values = {}
    for name, (shape, dtype) in wanted.items():
        if min(shape, default=1) < 0:
            raise UsageError(f"input {name} has no fixed shape: {shape}", "give it with --inputs")
        values[name] = generator.random_sample(shape).astype(dtype)
    return values


def _check_names(inputs: Dict[str, Any], wanted: Dict[str, Any]) -> None:
    if sorted(inputs) != sorted(wanted):
        raise UsageError(f"inputs {sorted(inputs)} are given, the engine has {sorted(wanted)}")


def _write(file: Path, outputs: Dict[str, Any]) -> None:
    import numpy as np

    # numpy.savez does not take arrays of some names, such as file.
    with written_whole(file) as partial, zipfile.ZipFile(str(partial), "w") as archive:
        for name, value in outputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)
