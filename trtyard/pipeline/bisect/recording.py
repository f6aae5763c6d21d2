"""Record every operator that PyTorch runs in one forward pass: line, module, inputs, outputs.

A recording holds no values. With ``on_value`` the same pass gives each output as it is made, so
that the caller keeps only what it needs.
"""

import sys
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import torch

from trtyard.pipeline.models import one_run
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.one_run import buffers_kept, run_once
from trtyard.pipeline.onnx_model.origin import model_lines

OUTPUTS = "outputs"  # the op of the last event, which stands for what the model returns
ITEM = "aten::_local_scalar_dense"

# From this file on outwards it is no longer the model.
_RUNNER = one_run.__file__

Place = Tuple[str, str]  # "net.py", "12"
OnValue = Callable[[int, int, torch.Tensor], None]


class Made(NamedTuple):
    """An output of an event."""

    shape: Tuple[int, ...]
    dtype: str  # as numpy names it


class Event(NamedTuple):
    """One operator that ran."""

    op: str  # such as "aten::convolution"
    places: Tuple[Place, ...]  # its line in the model's code, then those of the callers
    origin: str  # "net.py:12 in forward"; empty if it is not known
    module: str  # the path of the module, such as "body.0.conv"
    made: Tuple[Made, ...]
    needs: Tuple[int, ...]  # the events whose results it reads
    writes: bool  # it changes a tensor in place
    numbers: Tuple[float, ...]  # among its arguments, or its own result
    outside: Tuple[Made, ...] = ()  # its arguments that no operator made, such as from numpy
    is_overwritten: bool = False  # a later operator writes into the memory of its results

    @property
    def name(self) -> str:
        """The operator without namespace, underscores and overload."""
        return self.op.split("::")[-1].strip("_")


def is_supported() -> bool:
    """Tell whether this torch can record operators."""
    try:
        from torch.utils._python_dispatch import TorchDispatchMode  # noqa: F401
    except ImportError:
        return False
    return hasattr(torch.Tensor, "untyped_storage")


def record(model: Model, on_value: Optional[OnValue] = None) -> List[Event]:
    """Run the model once and return its operators in order; the last one is ``OUTPUTS``."""
    recorder = _Recorder(model, on_value)
    with buffers_kept(model.module), recorder.modules_watched(), _mode(recorder):
        returned = run_once(model.module, model.inputs)
    tensors = returned if isinstance(returned, (tuple, list)) else [returned]
    recorder.add_outputs(tensors)
    return [
        event._replace(is_overwritten=number in recorder.overwritten)
        for number, event in enumerate(recorder.events)
    ]


class _Root(NamedTuple):
    """A tensor with a storage of its own."""

    event: int
    shape: Tuple[int, ...]
    stride: Tuple[int, ...]
    offset: int
    written_by: int  # the last event that wrote into the storage, or that made it


_View = Tuple[int, int, Tuple[int, ...], Tuple[int, ...]]


class _Recorder:
    def __init__(self, model: Model, on_value: Optional[OnValue]) -> None:
        self.events: List[Event] = []
        self.overwritten: Set[int] = set()
        self._on_value = on_value
        self._model = model
        self._modules: List[str] = [""]
        self._roots: Dict[int, _Root] = {}
        self._views: Dict[_View, int] = {}
        self._users: Dict[int, Set[int]] = {}  # of a storage: the events whose results are in it
        self._items: Dict[float, int] = {}
        module = model.module
        self._known: Set[int] = {
            _storage(each) for each in [*module.parameters(), *module.buffers(), *model.inputs]
        }

    def modules_watched(self) -> Any:
        return _Watched(self._model.module, self._modules)

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run one operator and note it."""
        inputs = [each for each in _leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        outside = [each for each in inputs if self._is_outside(each)]
        needs = {need for each in inputs for need in self._needs(each)}
        numbers = tuple(float(each) for each in _leaves((args, kwargs)) if isinstance(each, float))
        needs.update(self._items[each] for each in numbers if each in self._items)
        result = func(*args, **kwargs)
        written = _written(func, args, kwargs)
        number = len(self.events)
        outputs = [each for each in _leaves(result) if isinstance(each, torch.Tensor)]
        if func.name().startswith(ITEM):
            numbers = (float(result),)
            self._items[numbers[0]] = number
        places, origin = _places()
        bases = [base for each in written for base in self._bases(each)]
        made = [*outputs, *bases]
        self.events.append(
            Event(
                func.name().split(".")[0],
                places,
                origin,
                self._modules[-1],
                tuple(_made(each) for each in made),
                tuple(sorted(needs)),
                bool(written),
                numbers,
                tuple(_made(each) for each in outside),
            )
        )
        shared = {_storage(each) for each in inputs}
        for each in outside:
            self._note(each, number, True)
        for each in outputs:
            self._note(each, number, _storage(each) not in shared)
        for each in written:
            storage = _storage(each)
            self.overwritten |= self._users.get(storage, set()) - {number}
            if storage in self._roots:
                self._roots[storage] = self._roots[storage]._replace(written_by=number)
        self._give(number, made)
        if self._on_value is not None:
            for index, each in enumerate(outside):
                self._on_value(number, -1 - index, each)
        return result

    def add_outputs(self, tensors: Sequence[torch.Tensor]) -> None:
        needs = sorted({need for each in tensors for need in self._needs(each)})
        number = len(self.events)
        made = tuple(_made(each) for each in tensors)
        self.events.append(Event(OUTPUTS, (), "", "", made, tuple(needs), False, ()))
        self.overwritten.add(number)  # the model's buffers, which may be outputs, are restored
        self._give(number, tensors)

    def _give(self, event: int, tensors: Sequence[torch.Tensor]) -> None:
        if self._on_value is not None:
            for index, each in enumerate(tensors):
                self._on_value(event, index, each)

    def _is_outside(self, tensor: torch.Tensor) -> bool:
        storage = _storage(tensor)
        return bool(tensor.numel()) and storage not in self._roots and storage not in self._known

    def _note(self, tensor: torch.Tensor, event: int, is_new: bool) -> None:
        if is_new:
            self._roots[_storage(tensor)] = _Root(
                event, tuple(tensor.shape), tensor.stride(), tensor.storage_offset(), event
            )
            self._users[_storage(tensor)] = set()
        self._views[_view(tensor)] = event
        self._users.setdefault(_storage(tensor), set()).add(event)
        if _storage(tensor) in self._known:
            self.overwritten.add(event)

    def _needs(self, tensor: torch.Tensor) -> List[int]:
        root = self._roots.get(_storage(tensor))
        if root is None:
            return []
        made_by = max(self._views.get(_view(tensor), root.event), root.event)
        return [made_by, root.written_by] if root.written_by > root.event else [made_by]

    def _bases(self, tensor: torch.Tensor) -> List[torch.Tensor]:
        """Return the whole tensor of which ``tensor``, which was written to, is a part."""
        root = self._roots.get(_storage(tensor))
        if root is None or root.shape == tuple(tensor.shape):
            return []
        return [tensor.as_strided(root.shape, root.stride, root.offset)]


def _mode(recorder: _Recorder) -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return recorder.run(func, args, kwargs or {})

    return Mode()


class _Watched:
    """Keeps the path of the module that runs on top of ``stack`` while the block lasts."""

    def __init__(self, module: torch.nn.Module, stack: List[str]) -> None:
        self._module = module
        self._stack = stack
        self._hooks: List[Any] = []

    def __enter__(self) -> None:
        for name, each in self._module.named_modules():
            if isinstance(each, torch.jit.ScriptModule):
                continue  # takes no hooks
            self._hooks.append(each.register_forward_pre_hook(self._entering(name)))
            self._hooks.append(each.register_forward_hook(self._left))

    def __exit__(self, *_: Any) -> None:
        for hook in self._hooks:
            hook.remove()

    def _entering(self, name: str) -> Callable[[Any, Any], None]:
        def enter(_module: Any, _inputs: Any) -> None:
            self._stack.append(name)

        return enter

    def _left(self, _module: Any, _inputs: Any, _output: Any) -> None:
        self._stack.pop()


def _places() -> Tuple[Tuple[Place, ...], str]:
    """Return the lines of the model's own code that run now, the innermost first."""
    frames = []
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename != _RUNNER:
        if frame.f_code.co_filename != __file__:
            frames.append(frame)
        frame = frame.f_back
    chosen = [frames[index] for index in model_lines([one.f_code.co_filename for one in frames])]
    if not chosen:
        return (), ""
    places = tuple(place_of(one.f_code.co_filename, str(one.f_lineno)) for one in chosen)
    file, line = chosen[0].f_code.co_filename, chosen[0].f_lineno
    return places, f"{file}:{line} in {chosen[0].f_code.co_name}"


def place_of(file: str, line: str) -> Place:
    """Return a line's place; the file's folder may have another name where the file was made."""
    return file.replace("\\", "/").rpartition("/")[2], line


def _written(func: Any, args: Any, kwargs: Any) -> List[torch.Tensor]:
    """Return the arguments that an operator changes in place."""
    found: List[torch.Tensor] = []
    for index, one in enumerate(func._schema.arguments):
        if one.alias_info is None or not one.alias_info.is_write:
            continue
        value = args[index] if index < len(args) else kwargs.get(one.name)
        found += [each for each in _leaves(value) if isinstance(each, torch.Tensor)]
    return found


def _leaves(value: Any) -> List[Any]:
    if isinstance(value, (tuple, list)):
        return [leaf for each in value for leaf in _leaves(each)]
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    return [value]


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _view(tensor: torch.Tensor) -> _View:
    return _storage(tensor), tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


def _made(tensor: torch.Tensor) -> Made:
    return Made(tuple(tensor.shape), str(tensor.dtype).replace("torch.", ""))
