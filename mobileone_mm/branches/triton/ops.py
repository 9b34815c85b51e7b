"""The sum of a block's branches as operators that ``torch.compile`` does not look into.

On CUDA they launch the Triton kernels; elsewhere they run the reference. In eager mode
:class:`.function.TritonBranches` does the same with less overhead. Needs torch 2.4 or newer.
"""

from typing import Any, List, Sequence, Tuple, cast

import torch
from torch import Tensor

from .block import Fold
from .reference import reference_backward, reference_forward, state_sizes

__all__ = ['branches_op']


def _pack(fold: Fold) -> Tuple[List[int], float]:
    """All but epsilon as integers, and epsilon: operators take no named tuples."""
    return [fold.convs, int(fold.scale), int(fold.skip), int(fold.depthwise), fold.stride,
            fold.dilation, int(fold.relu)], fold.eps


def _unpack(numbers: Sequence[int], eps: float) -> Fold:
    convs, scale, skip, depthwise, stride, dilation, relu = numbers
    return Fold(convs, bool(scale), bool(skip), bool(depthwise), stride, dilation, eps, bool(relu))


@torch.library.custom_op('mobileone_mm::branches', mutates_args=())
def _forward(x: Tensor, params: Tensor, channels: int, numbers: Sequence[int],
             eps: float) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    fold = _unpack(numbers, eps)
    if not x.is_cuda:
        return reference_forward(x, params, channels, fold)
    from .function import forward
    return forward(x, params, channels, fold)


@_forward.register_fake
def _(x: Tensor, params: Tensor, channels: int, numbers: Sequence[int],
      eps: float) -> Tuple[Tensor, ...]:
    fold = _unpack(numbers, eps)
    size = [-(-length // fold.stride) for length in x.shape[2:]]
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    y = torch.empty((x.shape[0], channels, *size), dtype=x.dtype, device=x.device,
                    memory_format=layout)
    kernel = x.new_empty(0 if fold.depthwise else (channels, x.shape[1]))
    state = params.new_empty(sum(state_sizes(x.shape[1], channels, fold)))
    return y, kernel, state, params.new_empty((2, fold.norms, channels))


@torch.library.custom_op('mobileone_mm::branches_backward', mutates_args=())
def _backward(x: Tensor, grad: Tensor, y: Tensor, params: Tensor, kernel: Tensor, state: Tensor,
              numbers: Sequence[int], eps: float) -> Tuple[Tensor, Tensor]:
    fold = _unpack(numbers, eps)
    if not x.is_cuda:
        return reference_backward(x, grad, y, params, kernel, state, fold)
    from .function import backward
    dx, grads = backward(x, grad, y, params, kernel, state, fold, needs_x=True)
    return cast(Tensor, dx), grads


@_backward.register_fake
def _(x: Tensor, grad: Tensor, y: Tensor, params: Tensor, *_: Any) -> Tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(params)


def _setup(ctx: Any, inputs: Tuple[Any, ...], output: Tuple[Tensor, ...]) -> None:
    x, params, _, *fold = inputs
    y, kernel, state, _ = output
    ctx.save_for_backward(x, y, params, kernel, state)
    ctx.fold = fold


def _differentiate(ctx: Any, grad: Tensor, *_: Any) -> Tuple[Any, ...]:
    x, y, params, kernel, state = ctx.saved_tensors
    dx, grads = torch.ops.mobileone_mm.branches_backward(x, grad, y, params, kernel, state,
                                                         *ctx.fold)
    return (dx, grads, *[None] * 3)


_forward.register_autograd(_differentiate, setup_context=_setup)


def branches_op(x: Tensor, fold: Fold, tensors: Sequence[Tensor]) -> Tuple[Tensor, Tensor]:
    """Like :meth:`.function.TritonBranches.apply`, but traceable."""
    params = torch.cat([t.reshape(-1) for t in tensors]).float()
    channels = tensors[0].shape[0]
    y, _, _, stats = torch.ops.mobileone_mm.branches(x, params, channels, *_pack(fold))
    return y, stats.detach()
