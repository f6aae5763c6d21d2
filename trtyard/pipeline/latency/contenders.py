"""PyTorch and ONNX Runtime on one model and batch, ready to be timed."""

import contextlib
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Sequence

import torch

from trtyard.core.report import COMPILED, FUNCTION_BODIES, ONNXRUNTIME_CUDA
from trtyard.pipeline.latency.clocks import CPU, CUDA, captured, milliseconds
from trtyard.pipeline.latency.rounds import Contender, OneRun
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.onnx_model.versions import CPU_PROVIDER, CUDA_PROVIDER, session
from trtyard.pipeline.onnxruntime_cuda.process import Asked, running
from trtyard.pipeline.stages import NotRunError

Check = Callable[[], None]  # raises NotRunError if it cannot run


def torch_contenders(
    model: Model, device: str, check: Check, note: Optional[str] = None
) -> List[Contender]:
    """Return PyTorch eager and compiled, and on a GPU both as CUDA graphs too.

    The module is moved to the device and stays there.
    """

    def starting(is_compiled: bool, is_graph: bool) -> Callable[[], Any]:
        return lambda: _torch(model, device, check, is_compiled, is_graph)

    return [
        Contender(
            COMPILED if is_compiled else "torch",
            "fp32",
            device,
            starting(is_compiled, graph),
            graph,
            note,
        )
        for is_compiled in (False, True)
        for graph in ((False, True) if device == CUDA else (False,))
    ]


@contextlib.contextmanager
def _torch(
    model: Model, device: str, check: Check, is_compiled: bool, is_graph: bool
) -> Iterator[OneRun]:
    check()
    if is_compiled and not hasattr(torch, "compile"):
        raise NotRunError(f"torch {torch.__version__} has no torch.compile")
    module = model.module.to(device)
    inputs = [value.to(device) for value in model.inputs]
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        if is_compiled:
            stack.callback(torch._dynamo.reset)  # or the next batch is another shape of this one
            module = torch.compile(module, dynamic=False)
        # Copies in each run, which the module may change in place.
        given = [value.clone() for value in inputs]
        run = (lambda: module(*given)) if not is_graph else captured(lambda: module(*given))

        def one_run() -> float:
            for copy, value in zip(given, inputs):
                copy.copy_(value)
            return milliseconds(run, device)

        yield one_run


def onnxruntime_cuda_contenders(
    asked: Asked, library: Optional[Path], has_ops: bool, precision: str, check: Check
) -> List[Contender]:
    """Return ONNX Runtime on the GPU with function bodies, with kernels, and as a CUDA graph.

    A file without custom ops has no bodies to time. Without a library only the bodies run.
    """
    device = CUDA if asked.provider == CUDA_PROVIDER else CPU

    def contender(runtime: str, used: Optional[Path], is_graph: bool) -> Contender:
        @contextlib.contextmanager
        def start() -> Iterator[OneRun]:
            check()
            with running(asked._replace(library=used, is_graph=is_graph)) as ready:
                yield ready.run

        return Contender(runtime, precision, device, start, is_graph, "timed by the clock")

    bodies = [contender(FUNCTION_BODIES, None, False)] if has_ops else []
    if has_ops and library is None:
        return bodies
    return [*bodies, *(contender(ONNXRUNTIME_CUDA, library, graph) for graph in (False, True))]


def onnxruntime_contender(
    file: Path,
    model: Model,
    precision: str,
    check: Check,
    has_gpu: bool,
    is_fused: bool = True,
) -> Contender:
    """Return ONNX Runtime on ``file``: on the GPU if this onnxruntime can use one, else the CPU."""
    import onnxruntime

    providers: Sequence[str] = onnxruntime.get_available_providers() if has_gpu else ()
    is_cuda = CUDA_PROVIDER in providers
    inputs = {name: value.numpy() for name, value in zip(model.input_names, model.inputs)}

    @contextlib.contextmanager
    def start() -> Iterator[OneRun]:
        check()
        ready = session(
            file,
            is_fused,
            torch.get_num_threads(),
            CUDA_PROVIDER if is_cuda else CPU_PROVIDER,
        )
        given = {one.name: inputs[one.name] for one in ready.get_inputs()}
        names = list(model.output_names)
        # Its run returns when the outputs are on the host: no event is needed.
        yield lambda: milliseconds(lambda: ready.run(names, given), CPU)

    note: Optional[str] = None
    if is_cuda:
        note = "copies inputs and outputs between host and GPU"
    elif has_gpu:
        note = "this onnxruntime has no CUDA provider"
    return Contender("onnxruntime", precision, CUDA if is_cuda else CPU, start, note=note)
