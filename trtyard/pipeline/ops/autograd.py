"""Wrap an op in autograd functions, for torch before 2.4, whose tracer then sees one node."""

from typing import Any, Callable, Optional, Sequence, Type

import torch

from trtyard.pipeline.ops.contract import Op
from trtyard.pipeline.ops.symbolic import typed_node
from trtyard.pipeline.torch_support.versions import untraced

Compute = Callable[..., Any]


def by_autograd(
    op: Op, reference: Compute, on_cuda: Optional[Compute], other_outputs: Sequence[Compute]
) -> Callable[..., Any]:
    """Return a function of the op's arguments, by position or by name; see ``torch_op``."""
    first = _first_output(op, reference, on_cuda)
    others = [_other_output(number, each) for number, each in enumerate(other_outputs, 1)]
    signature = op.signature()

    def call(*arguments: Any, **named: Any) -> Any:
        bound = signature.bind(*arguments, **named)
        bound.apply_defaults()
        result = first.apply(*bound.args)
        return (result, *(each.apply(result) for each in others)) if others else result

    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = reference.__doc__
    return call


def _first_output(
    op: Op, reference: Compute, on_cuda: Optional[Compute]
) -> Type[torch.autograd.Function]:
    class First(torch.autograd.Function):
        """Returns only the first output, because torch 1.4 cannot export two results.

        The exported node still has all outputs.
        """

        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> torch.Tensor:
            run = on_cuda if on_cuda is not None and arguments[0].is_cuda else reference
            with untraced():
                result = run(*arguments)
            first: torch.Tensor = result[0] if len(op.outputs) > 1 else result
            ctx.mark_non_differentiable(first)
            return first

        @staticmethod
        def symbolic(graph: Any, *arguments: Any) -> Any:
            return typed_node(graph, op, arguments)[0]

    return First


def _other_output(number: int, compute: Compute) -> Type[torch.autograd.Function]:
    class Other(torch.autograd.Function):
        """Returns another output of the first output's node."""

        @staticmethod
        def forward(ctx: Any, first: torch.Tensor) -> torch.Tensor:
            with untraced():
                value: torch.Tensor = compute(first)
            ctx.mark_non_differentiable(value)
            return value

        @staticmethod
        def symbolic(_graph: Any, first: Any) -> Any:
            return list(first.node().outputs())[number]

    return Other
