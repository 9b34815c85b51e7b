"""The batch norms of a block's branches, as one stack of vectors."""

from typing import TYPE_CHECKING, Callable, List, Optional, Sequence, Tuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .maths.moment_fold import BranchStatistics
from .maths.norm_algebra import norm_scale

if TYPE_CHECKING:
    from typing_extensions import TypeGuard  # in typing from Python 3.10 on

__all__ = ['is_plain_norm', 'running_statistics', 'sync_groups', 'stack_affine', 'uses_batch',
           'normalize', 'reduce_over', 'update_running']


def is_plain_norm(norm: nn.Module) -> 'TypeGuard[_BatchNorm]':
    """Whether ``norm`` normalizes as torch's own BatchNorm2d or SyncBatchNorm does."""
    return isinstance(norm, _BatchNorm) and type(norm).forward in (
        _BatchNorm.forward, nn.SyncBatchNorm.forward)


def uses_batch(norm: _BatchNorm) -> bool:
    """Whether ``norm`` currently normalizes by the batch's own statistics."""
    return norm.training or (norm.running_mean is None and norm.running_var is None)


def sync_groups(norms: Sequence[_BatchNorm]) -> List[dist.ProcessGroup]:
    """The groups of processes that synchronized norms in training use, each once."""
    groups: List[dist.ProcessGroup] = []
    if dist.is_available() and dist.is_initialized():
        for norm in norms:
            if isinstance(norm, nn.SyncBatchNorm) and norm.training:
                group = norm.process_group or dist.group.WORLD
                if dist.get_world_size(group) > 1 and group not in groups:
                    groups.append(cast(dist.ProcessGroup, group))
    return groups


def running_statistics(norm: _BatchNorm) -> Tuple[Tensor, Tensor]:
    """Running mean and variance, (C,) each.

    Raises:
        ValueError: The norm keeps no running statistics.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError('the batch norm keeps no running statistics')
    return norm.running_mean, norm.running_var


def stack_affine(params: Sequence[Optional[Tensor]], default: float, like: Tensor,
                 dtype: torch.dtype) -> Tensor:
    """Stack gammas or betas to (b, C) in the form of ``like``; without affine, use ``default``."""
    return torch.stack([like.new_full(like.shape[1:], default, dtype=dtype) if p is None
                        else p.to(dtype) for p in params])


def _gather_moments(mean: Tensor, var: Tensor, count: int,
                    group: dist.ProcessGroup) -> Tuple[Tensor, Tensor, int]:
    """Mean and variance over all processes, with one call and without cancellation.

    ``mean = sum_r n_r mean_r / N``, ``var = sum_r n_r (var_r + (mean_r - mean)^2) / N``.
    """
    mine = torch.cat([mean.flatten(), var.double().flatten(), mean.new_tensor([count])])
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, mine, group=group)
    everyone = torch.stack(parts)
    counts = everyone[:, -1:]
    means, variances = everyone[:, :-1].chunk(2, dim=1)
    total = counts.sum()
    mean_all = (counts * means).sum(0) / total
    var_all = (counts * (variances + (means - mean_all).square())).sum(0) / total
    return mean_all.view_as(mean), var_all.view_as(mean).to(var.dtype), int(total)


def reduce_over(group: dist.ProcessGroup, count: int) -> Callable[[Tensor], Tuple[Tensor, int]]:
    """A function that sums a tensor over ``group`` and returns it with the total count."""
    def reduce(tensor: Tensor) -> Tuple[Tensor, int]:
        both = torch.cat([tensor.double().flatten(), tensor.new_tensor([count]).double()])
        dist.all_reduce(both, group=group)
        return both[:-1].view_as(tensor).to(tensor.dtype), int(both[-1])

    return reduce


def normalize(norms: Sequence[_BatchNorm], gamma: Tensor, mean: Tensor, var: Tensor,
              count: int) -> BranchStatistics:
    """Statistics in use and scales; also updates running statistics like the norms' forward.

    Args:
        norms: One per branch.
        gamma: (b, C).
        mean: Mean of each branch over this batch, (b, C) float64.
        var: Variance of each branch over this batch, (b, C); the result has its dtype.
        count: Number of positions, n.
    """
    groups = sync_groups(norms)
    batch_mean, batch_var, total = mean, var, count
    if groups:
        batch_mean, batch_var, total = _gather_moments(mean, var, count, groups[0])
    batch = [uses_batch(norm) for norm in norms]
    used_mean, used_var, mask = batch_mean, batch_var, None
    if not all(batch):
        used_mean, used_var = batch_mean.clone(), batch_var.clone()
        for i, norm in enumerate(norms):
            if not batch[i]:
                used_mean[i], used_var[i] = running_statistics(norm)
        mask = gamma.new_tensor(batch).unsqueeze(1)
    update_running(norms, batch_mean, batch_var, total)
    eps = [norm.eps for norm in norms]
    same = min(eps) == max(eps)
    scale, inv = norm_scale(gamma, used_var,
                            eps[0] if same else used_var.new_tensor(eps).unsqueeze(1))
    shift = mean - used_mean if groups or mask is not None else None
    return BranchStatistics(scale, inv, mask, shift)


def update_running(norms: Sequence[_BatchNorm], mean: Tensor, var: Tensor, count: int) -> None:
    """Update running statistics like each norm's own forward; ``mean`` and ``var`` are (b, C)."""
    tracked = [i for i, norm in enumerate(norms) if norm.training and norm.track_running_stats]
    if not tracked:
        return
    counters = [norms[i].num_batches_tracked for i in tracked]
    torch._foreach_add_([counter for counter in counters if counter is not None], 1)
    momenta = [_momentum(norms[i]) for i in tracked]
    means, variances = zip(*(running_statistics(norms[i]) for i in tracked))
    running = [*means, *variances]
    values = torch.cat([mean, var * (count / (count - 1))]).to(running[0].dtype).unbind()
    batch = [values[i] for i in tracked] + [values[i + len(norms)] for i in tracked]
    if len(set(momenta)) == 1:  # several at once need torch 2.6
        torch._foreach_lerp_(running, batch, momenta[0])
    else:
        for statistic, value, momentum in zip(running, batch, momenta * 2):
            statistic.lerp_(value, momentum)


def _momentum(norm: _BatchNorm) -> float:
    """The momentum for this batch; a norm without one keeps a plain average."""
    if norm.momentum is not None:
        return norm.momentum
    return 1. / float(cast(Tensor, norm.num_batches_tracked))
