"""Compute what the Triton kernels compute, with :mod:`mobileone_mm.branches.maths`.

On CPUs, the operators of :mod:`.ops` run this. Tests compare it and the kernels with each other,
and both with the branches one by one.
"""

from typing import List, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..maths import moment_fold
from ..maths import moments as mo
from ..maths.norm_algebra import norm_scale
from .block import Fold

__all__ = ['branch_kernels', 'flat_grads', 'reference_backward', 'reference_forward', 'state_sizes']


def state_sizes(size: int, channels: int, fold: Fold) -> List[int]:
    """Sizes of the parts of the state for the backward pass, for C = ``size`` inputs.

    In order: shift (C,) and rest (C, K), whose sum is the mean of the patches; scale and inv
    (b, C_out); products (b, C, 9) or, of the branches with weights, (k, C_out, C). Depthwise
    blocks keep the folded kernel (C, 9) and its bias as well.
    """
    vector = fold.norms * channels
    if fold.depthwise:
        return [size, 9 * size, vector, vector, 9 * vector, 9 * size, size]
    return [size, size, vector, vector, fold.convs * channels * size]


def branch_kernels(params: Tensor, size: int, channels: int, fold: Fold) -> moment_fold.Kernels:
    """The kernels in the flat parameters of a block with C = ``size`` inputs."""
    if not fold.depthwise:
        weight = params[:fold.convs * channels * size].view(fold.convs, channels, size)
        identity = torch.arange(size, device=params.device) if fold.skip else None
        return moment_fold.DenseKernels(weight, identity)
    own = 9 * fold.convs * size
    rows = [params[:own].view(fold.convs, size, 9)]
    if fold.scale:
        rows.append(F.pad(params[own:own + size].view(1, size, 1), (4, 4)))
    if fold.skip:
        rows.append(F.pad(params.new_ones(1, size, 1), (4, 4)))
    return moment_fold.DepthwiseKernels(torch.cat(rows))


def _shape(fold: Fold) -> mo.ConvShape:
    if not fold.depthwise:
        return mo.ConvShape()
    return mo.ConvShape(3, fold.stride, fold.dilation, fold.dilation)


def reference_forward(x: Tensor, params: Tensor, channels: int,
                      fold: Fold) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Like :func:`.depthwise.depthwise_forward` and :func:`.pointwise.pointwise_forward`."""
    size, shape = x.shape[1], _shape(fold)
    kernels = branch_kernels(params, size, channels, fold)
    moments = (mo.depthwise_patch_moments if fold.depthwise else mo.dense_moments)(x, shape)
    products = kernels.times(moments.cov)
    var, mean = kernels.variances(moments.cov, products), kernels.project(moments.mean)
    gamma, beta = params[-2 * fold.norms * channels:].view(2, fold.norms, channels)
    scale, inv = norm_scale(gamma, var, fold.eps)
    kernel = kernels.combine(scale)
    used = kernel if fold.depthwise else kernel.to(x.dtype)
    bias = moment_fold.fold_bias(used, moments.mean, beta, scale, None).float()
    side = shape.kernel_size
    y = F.conv2d(x.float(), used.float().view(channels, -1, side, side), bias, shape.stride,
                 shape.padding, shape.dilation, size if fold.depthwise else 1)
    y = (F.relu(y) if fold.relu else y).to(x.dtype)
    y = y.contiguous(memory_format=(torch.contiguous_format if x.is_contiguous()
                                    else torch.channels_last))
    center = moments.mean[:, 4] if fold.depthwise else moments.mean
    shift = center.float()
    rest = (moments.mean - (shift.unsqueeze(1) if fold.depthwise else shift)).float()
    parts = [shift, rest, scale, inv, products]
    if fold.depthwise:
        parts += [kernel, bias]
    unbiased = var * (moments.count / (moments.count - 1))
    return (y, used.to(x.dtype) if not fold.depthwise else x.new_empty(0),
            torch.cat([part.flatten() for part in parts]), torch.stack([mean.float(), unbiased]))


def reference_backward(x: Tensor, grad: Tensor, y: Tensor, params: Tensor, kernel: Tensor,
                       state: Tensor, fold: Fold) -> Tuple[Tensor, Tensor]:
    """Like :func:`.depthwise.depthwise_backward` and :func:`.pointwise.pointwise_backward`."""
    size, channels, shape = x.shape[1], grad.shape[1], _shape(fold)
    kernels = branch_kernels(params, size, channels, fold)
    shift, rest, scale, inv, products, *own = state.split(state_sizes(size, channels, fold))
    mean = shift.double()
    if fold.depthwise:
        mean = mean.unsqueeze(1) + rest.double().view(size, 9)
        kernel, products = own[0].view(size, 9), products.view(fold.norms, size, 9)
    else:
        mean = mean + rest.double()
        products = products.view(fold.convs, channels, size)
    g = grad.float() * (y > 0) if fold.relu else grad.float()
    p = mo.patches(x.double(), shape)
    rows = g.double().flatten(2)
    if fold.depthwise:
        centered = torch.einsum('bcn,bckn->ck', rows, p - mean.unsqueeze(2))
    else:
        centered = torch.einsum('bon,bcn->oc', rows, p[:, :, 0] - mean.unsqueeze(1))
    total, count = rows.sum((0, 2)), rows.shape[0] * rows.shape[2]
    scale, inv = scale.view(fold.norms, channels), inv.view(fold.norms, channels)
    grads = moment_fold.fold_backward(
        kernels, moment_fold.FoldState(
            mean, products, moment_fold.BranchStatistics(scale, inv, None, None)),
        centered.float(), total.float(), count)
    input_grad = mo.depthwise_patch_input_grad if fold.depthwise else mo.dense_input_grad
    dx = input_grad(x.double(), shape, grads.quadratic.double(), grads.linear, g.double(),
                    kernel.double())
    return torch.empty_like(x).copy_(dx), flat_grads(grads, fold)


def flat_grads(grads: moment_fold.FoldGrads, fold: Fold) -> Tensor:
    """As the flat parameters are."""
    weights = [grads.weight[:fold.convs].flatten()]
    if fold.scale:
        weights.append(grads.weight[fold.convs, :, 4])
    return torch.cat([*weights, grads.gamma.flatten(), grads.beta.repeat(fold.norms)])
