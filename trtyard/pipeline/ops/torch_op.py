"""Make a torch operator, which exporters see as one node, from an op's reference."""

from typing import Any, Callable, Optional, Sequence

import torch

from trtyard.pipeline.ops.contract import DOMAIN, Op
from trtyard.pipeline.torch_support.versions import HAS_CUSTOM_OP, is_exporting

Compute = Callable[..., Any]


def torch_op(
    op: Op,
    reference: Compute,
    shapes: Compute,
    on_cuda: Optional[Compute] = None,
    other_outputs: Sequence[Compute] = (),
) -> Callable[..., Any]:
    """Return the op as a function: a torch operator, or an autograd function before torch 2.4.

    Args:
        op: the contract.
        reference: computes the op on any device. Its type hints become the operator's schema.
        shapes: takes the same arguments and returns empty tensors like the results.
        on_cuda: computes the op on CUDA tensors; None for the reference.
        other_outputs: for each output after the first, a function that computes it from the first.
            Only torch before 2.4 needs them.
    """
    if not HAS_CUSTOM_OP:
        from trtyard.pipeline.ops.autograd import by_autograd

        return by_autograd(op, reference, on_cuda, other_outputs)
    made = torch.library.custom_op(f"{DOMAIN}::{op.name}", reference, mutates_args=())
    made.register_fake(shapes)
    if on_cuda is not None:
        made.register_kernel("cuda")(on_cuda)
    operator: Callable[..., Any] = made
    return operator


def records_gradients(tensors: Sequence[torch.Tensor]) -> bool:
    """Return whether autograd records what is computed from the tensors.

    The operators have no gradients, so the reference runs then. Exporters get the operator in any
    case, because the reference's shapes depend on values. torch.compile leaves its graph there.
    """
    if not torch.is_grad_enabled() or not any(each.requires_grad for each in tensors):
        return False
    return not is_exporting()
