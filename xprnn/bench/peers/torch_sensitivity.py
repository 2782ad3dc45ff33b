"""`torch.autograd.gradcheck`, with its default options, on an LSTM step with a planted error."""

from typing import Any

import array_api_compat.torch as xp
import torch

from xprnn.bench.sensitivity import Planted, sample

CHECK = "torch.autograd.gradcheck"


def found(error: float) -> bool:
    """Whether it finds an error of this size."""
    cell = Planted(error=error)

    class Step(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arrays: Any) -> Any:
            state = arrays[8:]
            after, saved = cell.forward(xp, arrays[:4], arrays[4:8], state)
            ctx.save_for_backward(*saved, *state)
            return after

        @staticmethod
        def backward(ctx: Any, *d_state: Any) -> Any:
            saved, state = ctx.saved_tensors[:-2], ctx.saved_tensors[-2:]
            du, dv, d_previous = cell.backward(xp, saved, state, d_state)
            return (*du, *dv, *d_previous)

    arrays = [torch.tensor(a, requires_grad=True) for a in sample()]
    return not torch.autograd.gradcheck(Step.apply, arrays, raise_exception=False)
