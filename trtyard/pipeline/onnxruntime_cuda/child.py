"""Run one ONNX file in this process's ONNX Runtime; ``process`` starts it and describes it.

The arguments are a JSON file with the fields of ``process.Asked`` and the number of an open file
for the answers, one JSON object a line: one after the first run, one after each further run. Each
line on stdin asks for a run.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

# Read when onnxruntime is imported, see ``onnx_model.runner``.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np

# Kinds of problems.
LACKS, REFUSES, FAILS = "lacks", "refuses", "fails"
CUDA_PROVIDER = "CUDAExecutionProvider"
# fp32 is computed as fp32. Without TF32, ONNX Runtime 1.31's default search for a convolution's
# algorithm (EXHAUSTIVE) does not use the tensor cores for float16 either.
CUDA_SETTINGS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
_CPU_PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3


class _ProblemError(Exception):
    """ONNX Runtime, the library or the file does not work here."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def main(words: Sequence[str]) -> None:
    """Load the file, run it, and answer requests for further runs until stdin ends."""
    asked = json.loads(Path(words[0]).read_text(encoding="utf-8"))
    with os.fdopen(int(words[1]), "w", encoding="utf-8") as answers:

        def answered(action: Callable[[], Dict[str, Any]]) -> bool:
            try:
                answer = action()
            except _ProblemError as error:
                answer = {"problem": error.kind, "text": str(error)}
            except Exception as error:  # onnxruntime's exceptions share no base class
                answer = {"problem": FAILS, "text": str(error).strip()}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
            return "problem" not in answer

        loaded = _Loaded(asked)
        if answered(loaded.start):
            for _ in sys.stdin:
                answered(lambda: {"milliseconds": loaded.run()})


class _Loaded:
    """A session with its inputs and outputs on the device."""

    def __init__(self, asked: Dict[str, Any]) -> None:
        self._asked = asked
        self._device = "cuda" if asked["provider"] == CUDA_PROVIDER else "cpu"
        self._session: Any = None
        self._binding: Any = None

    def start(self) -> Dict[str, Any]:
        """Create the session, run it once, and write the outputs; return facts of both."""
        asked = self._asked
        runtime = _imported(asked["provider"])
        with np.load(asked["inputs_file"]) as archive:
            inputs = [archive[f"arr_{number}"] for number in range(len(asked["inputs"]))]
        given = dict(zip(asked["inputs"], inputs))
        outputs: List[Any] = []
        if asked["is_graph"]:  # its outputs have fixed places, so their shapes must be known
            self._bind(runtime, self._created(runtime, False), given, [])
            self.run()
            outputs = self._binding.copy_outputs_to_cpu()
        begin = time.perf_counter()
        session = self._created(runtime, asked["is_graph"])
        seconds = time.perf_counter() - begin
        self._bind(runtime, session, given, outputs)
        self.run()
        np.savez(asked["outputs_file"], *self._binding.copy_outputs_to_cpu())
        return {
            "version": runtime.__version__,
            "seconds": seconds,
            "outputs": [one.name for one in session.get_outputs()],
        }

    def run(self) -> float:
        """Run once and return the milliseconds; the outputs are then on the device."""
        begin = time.perf_counter()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        return (time.perf_counter() - begin) * 1e3

    def _created(self, runtime: Any, is_graph: bool) -> Any:
        asked, provider = self._asked, self._asked["provider"]
        options = runtime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = asked["threads"]
        if asked["library"] is not None:
            try:
                options.register_custom_ops_library(asked["library"])
            except Exception as error:
                raise _ProblemError(REFUSES, str(error).strip()) from error
        providers: List[Any] = [_CPU_PROVIDER]
        if provider == CUDA_PROVIDER:
            settings = {**CUDA_SETTINGS, "enable_cuda_graph": str(int(is_graph))}
            providers = [(provider, settings), _CPU_PROVIDER]
        session = runtime.InferenceSession(
            asked["file"], options, providers=providers, enable_fallback=0
        )
        if provider not in session.get_providers():
            raise _ProblemError(
                LACKS, f"onnxruntime {runtime.__version__} cannot load its {provider}"
            )
        return session

    def _bind(self, runtime: Any, session: Any, given: Dict[str, Any], outputs: List[Any]) -> None:
        """Place the inputs on the device, and the outputs at fixed places if there are any."""
        place = runtime.OrtValue.ortvalue_from_numpy
        self._session, self._binding = session, session.io_binding()
        for one in session.get_inputs():
            value = place(np.ascontiguousarray(given[one.name]), self._device, 0)
            self._binding.bind_ortvalue_input(one.name, value)
        for number, one in enumerate(session.get_outputs()):
            if outputs:
                value = place(np.zeros_like(outputs[number]), self._device, 0)
                self._binding.bind_ortvalue_output(one.name, value)
            else:
                self._binding.bind_output(one.name, self._device)


def _imported(provider: str) -> Any:
    """Return onnxruntime, with CUDA's libraries loaded if it needs them."""
    if provider == CUDA_PROVIDER:
        import torch  # noqa: F401 - loads the CUDA libraries of its packages
    import onnxruntime

    version, available = onnxruntime.__version__, onnxruntime.get_available_providers()
    if provider not in available:
        raise _ProblemError(
            LACKS, f"onnxruntime {version} has no {provider}, only {', '.join(available)}"
        )
    if provider == CUDA_PROVIDER and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # those of the system that torch does not need
    return onnxruntime


if __name__ == "__main__":
    main(sys.argv[1:])
