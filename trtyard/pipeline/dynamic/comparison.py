"""A dynamic model at every size that is compared: the reference first, then other runtimes."""

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from trtyard.core.errors import ConversionError
from trtyard.core.report import RUNTIMES, DynamicDimension, SizeParity
from trtyard.pipeline.dynamic.dimensions import Dynamic, Sizes
from trtyard.pipeline.dynamic.sizes import Size, compared_sizes, traced_sizes
from trtyard.pipeline.export.axes import Axes, axes_of, output_sizes
from trtyard.pipeline.models.families import kind_of
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.parity.comparison import Comparison, compare_outputs

Outputs = Dict[str, np.ndarray]


class Reference(NamedTuple):
    """The reference's outputs at one size."""

    size: Size
    seed: int
    outputs: Outputs


class SizedRuns:
    """The runs of one model at its sizes; nothing to do for a model of fixed shapes."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._runtime = RUNTIMES[0] if model.file is None else RUNTIMES[1]  # the reference
        self._references: List[Reference] = []
        self.parities: List[SizeParity] = []

    def compute_references(self, run: Callable[[Model], Outputs], usual: Outputs) -> Optional[str]:
        """Run the reference at every size, each with random inputs of its own; return a remark.

        Args:
            run: returns a model's outputs for its inputs.
            usual: the outputs at the first profile's usual size, which have been computed.

        Raises:
            ConversionError: the model fails at a size.
        """
        dynamic, remark = self._model.dynamic, None
        if dynamic is None:
            return None
        first, *others = compared_sizes(dynamic)
        self._references.append(Reference(first, 0, usual))
        for seed, size in enumerate(others, start=1):
            try:
                outputs = self._run_at(size.sizes, seed, run)
            except ConversionError as error:
                if size.multiples is None:
                    raise
                remark = (
                    f"fails at {in_words(size.sizes)}, so multiples of the range's sizes are "
                    f"compared in between ({error.message.splitlines()[-1].strip()})"
                )
                size = Size(size.role, size.multiples)
                if size.sizes in [each.size.sizes for each in self._references]:
                    continue
                outputs = self._run_at(size.sizes, seed, run)
            self._references.append(Reference(size, seed, outputs))
        return remark

    def _run_at(self, sizes: Sizes, seed: int, run: Callable[[Model], Outputs]) -> Outputs:
        dynamic = self._model.dynamic
        assert dynamic is not None  # noqa: S101 - the sizes are its own
        try:
            return run(self._model._replace(inputs=dynamic.draw(sizes, seed)))
        except ConversionError as error:
            raise ConversionError(
                f"at {in_words(sizes)}: {error.message}",
                error.hint
                or "give a range that the model takes; dimensions that must be equal share a "
                "name: [n=1..8] and then [n]",
                error.log,
            ) from error

    @property
    def references(self) -> List[Reference]:
        """The reference's outputs at each size, the first profile's usual one first."""
        return self._references

    def traced(self) -> Tuple[Sizes, Tuple[torch.Tensor, ...]]:
        """Return sizes and inputs for a trace; those of the model where nothing varies."""
        model = self._model
        if model.dynamic is None:
            return {}, model.inputs
        sizes = traced_sizes(model.dynamic, [value.shape for value in model.inputs])
        return sizes, model.dynamic.draw(sizes, 0)

    def axes(self) -> Optional[Axes]:
        """Return the names of the dimensions for an export; None where nothing varies."""
        model = self._model
        if model.dynamic is None:
            return None
        shapes = [
            (each.size.sizes, {name: value.shape for name, value in each.outputs.items()})
            for each in self._references
        ]
        outputs = output_sizes(shapes) if shapes else {}
        return axes_of(model.dynamic, model.input_names, outputs, self.traced()[0])

    def inputs_of(self, reference: Reference) -> Outputs:
        """Return the inputs of a reference, by name."""
        dynamic = self._model.dynamic
        assert dynamic is not None  # noqa: S101 - else there is no reference
        values = (
            dynamic.draw(reference.size.sizes, reference.seed)
            if reference.seed
            else self._model.inputs
        )
        return _by_name(self._model, values)

    def compare(
        self, runtime: str, run: Callable[[Outputs], Outputs], has_float16: bool
    ) -> Outputs:
        """Run a runtime at every size, compare, and return its outputs at the usual size.

        A size that it refuses is a failed comparison; at the usual size it then has no outputs.

        Args:
            runtime: its name in reports.
            run: returns the outputs for inputs, or raises ConversionError.
            has_float16: see ``compare_outputs``.

        Raises:
            ConversionError: it refuses every size, that of the trace too.
        """
        refused = []
        usual: Outputs = {}
        for reference in self._references:
            try:
                outputs = run(self.inputs_of(reference))
            except ConversionError as error:
                refused.append(error)
                pair, size = (self._runtime, runtime), reference.size
                problem = error.message
                self.parities.append(
                    SizeParity(pair, size.role, size.sizes, False, (), (), problem)
                )
                continue
            if reference is self._references[0]:
                usual = outputs
            self.judge(runtime, reference, outputs, has_float16)
        if refused and len(refused) == len(self._references):
            try:
                run(_by_name(self._model, self.traced()[1]))
            except ConversionError:
                raise refused[0] from None
        return usual

    def judge(
        self, runtime: str, reference: Reference, outputs: Outputs, has_float16: bool
    ) -> None:
        """Compare a runtime's outputs with the reference's, and keep the result."""
        pair, size = (self._runtime, runtime), reference.size
        found = self.comparison(pair, reference, outputs, has_float16)
        self.parities.append(
            SizeParity(pair, size.role, size.sizes, found.passed, found.parity, found.detections)
        )

    def comparison(
        self, pair: Tuple[str, str], reference: Reference, outputs: Outputs, has_float16: bool
    ) -> Comparison:
        """Return the comparison with the reference at one size."""
        kind = self._model.kind
        thresholds = kind_of(kind).thresholds
        return compare_outputs(kind, pair, reference.outputs, outputs, thresholds, has_float16)


def _by_name(model: Model, values: Sequence[torch.Tensor]) -> Outputs:
    return {name: value.numpy().copy() for name, value in zip(model.input_names, values)}


def dimensions_of(model: Model) -> Tuple[DynamicDimension, ...]:
    """Return a model's dynamic dimensions as the report has them."""
    dynamic = model.dynamic
    if dynamic is None:
        return ()
    return tuple(
        DynamicDimension(
            name,
            _places(dynamic, model.input_names, name),
            tuple(
                (profile[name].least, profile[name].usual, profile[name].most)
                for profile in dynamic.profiles
            ),
        )
        for name in dynamic.names
    )


def _places(dynamic: Dynamic, names: Sequence[str], dimension: str) -> Tuple[str, ...]:
    return tuple(
        f"{name}[{index}]"
        for name, axes in zip(names, dynamic.axes)
        for index, own in sorted(axes.items())
        if own == dimension
    )


def profile_shapes(model: Model) -> List[Dict[str, Any]]:
    """Return smallest, usual and largest shape of each input that varies, for each profile."""
    dynamic = model.dynamic
    if dynamic is None:
        return []
    return [
        {
            name: tuple(
                tuple(
                    profile[axes[index]][at] if index in axes else size
                    for index, size in enumerate(value.shape)
                )
                for at in range(3)
            )
            for name, value, axes in zip(model.input_names, model.inputs, dynamic.axes)
            if axes
        }
        for profile in dynamic.profiles
    ]


def in_words(sizes: Mapping[str, int]) -> str:
    """Return "batch 4, s 16"."""
    return ", ".join(f"{name} {size}" for name, size in sizes.items())
