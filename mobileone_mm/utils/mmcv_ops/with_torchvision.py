"""NMS and RoIAlign by torchvision's compiled operators, or else by this package's own.

torchvision is tried once for each kind of device: it may be missing, belong to another release of
torch, or be built without CUDA. mmcv's ``batched_nms`` uses ``nms``.
"""

from functools import cache
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor

from . import nms as own_nms
from . import roi_align as own_roi_align

__all__ = ['nms', 'roi_align_backward', 'roi_align_forward']


class _Ops(NamedTuple):
    """Operators of torchvision."""

    nms: Any
    roi_align: Any
    roi_align_backward: Any


@cache
def _torchvision(device_type: str) -> Optional[_Ops]:
    """The operators, if they work on a kind of device."""
    try:
        import torchvision  # noqa: F401  (registers them)
        ops = _Ops(torch.ops.torchvision.nms, torch.ops.torchvision.roi_align,
                   torch.ops.torchvision._roi_align_backward)
        boxes = torch.tensor([[0., 0., 1., 1.]], device=device_type)
        ops.nms(boxes, boxes[:, 0], 0.5)
    except (ImportError, AttributeError, OSError, RuntimeError):
        return None
    return ops


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Like :func:`.nms.nms`."""
    ops = _torchvision(boxes.device.type)
    if ops is None or boxes.numel() == 0:
        return own_nms.nms(boxes, scores, iou_threshold, offset)
    order = scores.sort(0, descending=True)[1]  # equal scores in mmcv's order
    boxes = boxes[order].to(torch.promote_types(boxes.dtype, torch.float32))
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], 1)
    ranks = torch.arange(len(boxes), 0, -1, device=boxes.device).to(boxes.dtype)
    return order[ops.nms(boxes, ranks, iou_threshold)]


def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor,
                      argmax_x: Tensor, *, pool_mode: int, **kwargs: Any) -> None:
    """Like :func:`.roi_align.roi_align_forward`."""
    ops = _torchvision(input.device.type)
    if ops is None or pool_mode != own_roi_align.AVERAGE:
        own_roi_align.roi_align_forward(input, rois, output, argmax_y, argmax_x,
                                        pool_mode=pool_mode, **kwargs)
        return
    dtype = torch.promote_types(input.dtype, torch.float32)
    output.copy_(ops.roi_align(input.to(dtype), rois.to(dtype), *_settings(**kwargs)))


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor,
                       grad_input: Tensor, *, pool_mode: int, **kwargs: Any) -> None:
    """Like :func:`.roi_align.roi_align_backward`."""
    ops = _torchvision(grad_input.device.type)
    if ops is None or pool_mode != own_roi_align.AVERAGE:
        own_roi_align.roi_align_backward(grad_output, rois, argmax_y, argmax_x, grad_input,
                                         pool_mode=pool_mode, **kwargs)
        return
    dtype = torch.promote_types(grad_output.dtype, torch.float32)
    *size, sampling_ratio, aligned = _settings(**kwargs)
    grad_input += ops.roi_align_backward(
        grad_output.to(dtype), rois.to(dtype), *size, *grad_input.shape, sampling_ratio,
        aligned).to(grad_input.dtype)


def _settings(aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
              aligned: bool) -> tuple:
    """The arguments in torchvision's order."""
    return spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
