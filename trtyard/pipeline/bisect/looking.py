"""Look at intermediate values of an engine: build it with a few tensors marked, and run it."""

import tempfile
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from trtyard.pipeline.tensorrt.layers import EngineLayer, inspected_layers

Arrays = Dict[str, np.ndarray]
_Shape = Tuple[int, ...]


class Seen(NamedTuple):
    """What one run gives."""

    values: Arrays  # the outputs, and the values that were asked for, if the engine has them
    layers: Optional[List[EngineLayer]] = None  # of the engine; None if they are not known


# Takes the names of values to look at. Raises ConversionError if they cannot be looked at together.
Look = Callable[[Sequence[str]], Seen]


class EngineLooker:
    """Looks at values of an engine. Needs a CUDA device to run it."""

    def __init__(
        self,
        onnx_file: Path,
        engine_file: Path,
        inputs: Arrays,
        library: Optional[Path] = None,
        profiles: Sequence[Mapping[str, Tuple[_Shape, _Shape, _Shape]]] = (),
    ) -> None:
        """Take what the engine is built from.

        Args:
            onnx_file: the network.
            engine_file: the engine that was built of it, without marks.
            inputs: of the run, by name.
            library: with the plugins' kernels.
            profiles: as ``build_engine`` takes them.
        """
        self._onnx_file = onnx_file
        self._engine_file = engine_file
        self.inputs = inputs
        self._library = library
        self._profiles = profiles

    def __call__(self, names: Sequence[str]) -> Seen:
        """Build an engine that gives the values ``names`` too, and run it once.

        A debug tensor that the engine does not give is tried again as an output.

        Raises:
            ConversionError: TensorRT does not build or run it.
        """
        from trtyard.pipeline.tensorrt.drivers import this_driver

        if not names:
            return self._run(self._engine_file)
        with tempfile.TemporaryDirectory(dir=str(self._engine_file.parent)) as folder:
            file = Path(folder) / self._engine_file.name
            if this_driver().has_debug_tensors:
                self.build(names, file, as_outputs=False)
                seen = self._run(file, names)
                if all(name in seen.values for name in names):
                    return seen
            self.build(names, file)
            return self._run(file)

    def build(self, names: Sequence[str], file: Path, as_outputs: bool = True) -> None:
        """Build an engine with the values ``names`` marked, and write it to ``file``."""
        from trtyard.pipeline.tensorrt.engine import build_engine

        build_engine(
            *(self._onnx_file, file, self._library, self._profiles),
            watched=names,
            as_outputs=as_outputs,
        )

    def _run(self, file: Path, debug_tensors: Sequence[str] = ()) -> Seen:
        from trtyard.pipeline.tensorrt.drivers import this_driver
        from trtyard.pipeline.tensorrt.runner import run_engine

        run = run_engine(file, self.inputs, self._library, watched=debug_tensors)
        layers = this_driver().layers_in_plan(file.read_bytes())
        return Seen(run.outputs, inspected_layers(run.layers) if layers is None else layers)
