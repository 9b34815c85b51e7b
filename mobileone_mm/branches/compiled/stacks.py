"""Stack a block's branches in NumPy arrays for the compiled kernels.

For shapes, see :mod:`.kernels.channel_fold`: b branches, C channels, K taps.
"""

from typing import List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ..norms import running_statistics, update_running, uses_batch
from ..plan import BranchPlan, BranchTensors
from .kernels.channel_fold import Branches, Grads, State

__all__ = ['branches_of', 'new_grads', 'new_state', 'split_state', 'update_norms']


def branches_of(plan: BranchPlan, weight: np.ndarray,
                tensors: Optional[BranchTensors] = None) -> Branches:
    """The branches, from weights already stacked to (b, C, K).

    ``tensors`` holds the gammas and betas. The backward omits it, since it needs neither these nor
    frozen statistics.
    """
    batch = [uses_batch(norm) for norm in plan.norms]
    channels = 0 if tensors is None else weight.shape[1]
    vectors = np.ones((2 * len(batch), channels), weight.dtype)
    vectors[len(batch):] = 0
    affine = [] if tensors is None else [*tensors.gammas, *tensors.betas]
    for row, p in zip(vectors, affine):
        if p is not None:
            row[:] = p.detach().numpy()
    frozen = np.zeros((2, len(batch), 0 if all(batch) else channels))
    for i, norm in enumerate(plan.norms):
        if not batch[i] and channels:
            frozen[:, i] = [statistic.numpy() for statistic in running_statistics(norm)]
    return Branches(weight, vectors[:len(batch)], vectors[len(batch):], frozen[0], frozen[1],
                    np.array(batch, 'float64'), np.array([norm.eps for norm in plan.norms]))


def new_state(branches: Branches, own_means: bool = True) -> Tuple[State, List[Tensor]]:
    """An empty state for a kernel to fill, and the tensors that store it for the backward.

    Without ``own_means``, all channels read the same taps, and the state has no means.
    """
    own, channels, taps = branches.weight.shape
    exact = channels * (3 * len(branches.eps) + 1 + taps * own_means)
    saved = [torch.empty(exact, dtype=torch.float64),
             torch.from_numpy(np.empty(channels * (taps + 1 + own * taps), branches.weight.dtype))]
    return split_state(branches, *saved), saved


def split_state(branches: Branches, exact: Tensor, rounded: Tensor) -> State:
    """The state stored in the tensors of :func:`new_state`."""
    b, (own, channels, taps) = len(branches.eps), branches.weight.shape
    flat, n = exact.numpy(), b * channels
    scale, inv, shift = flat[:3 * n].reshape(3, b, channels)
    bias, mean = flat[3 * n:3 * n + channels], flat[3 * n + channels:].reshape(-1, taps)
    flat, n = rounded.numpy(), channels * taps
    kernel, products = flat[:n].reshape(channels, taps), flat[n:n * (1 + own)]
    batch_mean, batch_var = np.empty((2, b, channels))
    return State(mean, products.reshape(own, channels, taps), kernel, bias, scale, inv, batch_mean,
                 batch_var, shift, flat[n * (1 + own):])


def update_norms(plan: BranchPlan, state: State, count: int) -> None:
    """Update the norms' running statistics."""
    update_running(plan.norms, torch.from_numpy(state.batch_mean),
                   torch.from_numpy(state.batch_var), count)


def new_grads(branches: Branches) -> Grads:
    """Empty gradients for a kernel to fill."""
    channels = branches.weight.shape[1]
    return Grads(np.empty_like(branches.weight),
                 np.empty((len(branches.eps), channels), branches.weight.dtype),
                 np.empty(channels))
