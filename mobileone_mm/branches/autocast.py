"""Combine custom autograd functions with autocast."""

import functools
from typing import Any, Callable, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ['autocast_dtype', 'plain_backward']


def autocast_dtype(device: str = 'cpu') -> Optional[torch.dtype]:
    """The dtype of autocast on a device type, ``'cpu'`` or ``'cuda'``; None if it is off."""
    if hasattr(torch, 'get_autocast_dtype'):
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    if device == 'cpu':  # before torch 2.4
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def plain_backward(backward: Callable) -> Callable:
    """Make a backward pass compute in its own dtypes, even inside an autocast region.

    Its result cannot be differentiated again.
    """
    @once_differentiable
    @functools.wraps(backward)
    def wrapped(ctx: Any, grad: Tensor) -> Any:
        with torch.autocast(grad.device.type, enabled=False):
            return backward(ctx, grad)

    return wrapped
