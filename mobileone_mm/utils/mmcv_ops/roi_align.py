"""RoIAlign of ``mmcv._ext`` in PyTorch, with the results of the compiled op.

Average pooling of bilinear samples on a regular grid is separable: for each RoI the output is
``rows @ feature @ columns^T``, where a row of ``rows`` holds the weights of one bin for each row of
the map. Legend: R RoIs, C channels, (H, W) size of the map, (PH, PW) number of bins.
"""

from typing import Any, Tuple

import torch
from torch import Tensor

# RoIs computed together: bounds the memory, R * PH * C * W numbers.
_CHUNK = 64
AVERAGE = 1  # mmcv's number for pool_mode='avg'


def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor,
                      argmax_x: Tensor, *, pool_mode: int, **kwargs: Any) -> None:
    """Fill ``output`` with the pooled features.

    Args:
        input: Feature maps, (B, C, H, W).
        rois: Index of the image, and box in its pixels (x1, y1, x2, y2), (R, 5).
        output: To be filled, (R, C, PH, PW).
        argmax_y: For max pooling; not used.
        argmax_x: For max pooling; not used.
        pool_mode: 1, for average pooling.
        **kwargs: Arguments of :func:`_weights`.

    Raises:
        NotImplementedError: ``pool_mode`` is not 1.
    """
    _check_pool_mode(pool_mode)
    dtype = torch.promote_types(input.dtype, torch.float32)
    features, (images, rows, columns) = input.to(dtype), _weights(rois.to(dtype), input, **kwargs)
    for part, image in _chunks(images):
        sampled = torch.einsum('rph,chw->rpcw', rows[part], features[image])
        output[part] = torch.einsum('rpcw,rqw->rcpq', sampled, columns[part]).to(output.dtype)


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor,
                       grad_input: Tensor, *, pool_mode: int, **kwargs: Any) -> None:
    """Add the gradient of the feature maps to ``grad_input``; arguments as in the forward pass."""
    _check_pool_mode(pool_mode)
    dtype = torch.promote_types(grad_output.dtype, torch.float32)
    images, rows, columns = _weights(rois.to(dtype), grad_input, **kwargs)
    for part, image in _chunks(images):
        spread = torch.einsum('rcpq,rqw->rpcw', grad_output[part].to(dtype), columns[part])
        grad_input[image] += torch.einsum('rph,rpcw->chw', rows[part], spread).to(grad_input.dtype)


def _check_pool_mode(pool_mode: int) -> None:
    if pool_mode != AVERAGE:
        raise NotImplementedError(
            "mobileone_mm supplies RoIAlign only with pool_mode='avg'; 'max' needs compiled mmcv")


def _chunks(images: Tensor) -> Any:
    """Indices of RoIs to compute together, and their image."""
    for image in images.unique().tolist():
        for part in (images == image).nonzero()[:, 0].split(_CHUNK):
            yield part, image


def _weights(rois: Tensor, feature: Tensor, aligned_height: int, aligned_width: int,
             spatial_scale: float, sampling_ratio: int, aligned: bool
             ) -> Tuple[Tensor, Tensor, Tensor]:
    """Image indices, (R, ); weights of bins for rows, (R, PH, H), and columns, (R, PW, W)."""
    x1, y1, x2, y2 = (rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.)).unbind(1)
    axes = []
    for start, end, bins, length in ((y1, y2, aligned_height, feature.shape[2]),
                                     (x1, x2, aligned_width, feature.shape[3])):
        size = end - start if aligned else (end - start).clamp(min=1)
        axes.append(_axis_weights(start, size / bins, bins, sampling_ratio, length))
    return rois[:, 0].long(), axes[0], axes[1]


def _axis_weights(start: Tensor, bin_size: Tensor, bins: int, sampling_ratio: int,
                  length: int) -> Tensor:
    """Bilinear weights along one axis, averaged over the samples of a bin: (R, bins, length)."""
    # 0 means about one sample per pixel
    samples = (torch.full_like(bin_size, sampling_ratio) if sampling_ratio > 0
               else bin_size.ceil())[:, None, None]
    index = torch.arange(max(int(samples.max()), 1) if len(start) else 1).to(start)
    start, bin_size = start[:, None, None], bin_size[:, None, None]
    bin_start = start + torch.arange(bins).to(start)[:, None] * bin_size
    position = bin_start + (index + .5) * bin_size / samples.clamp(min=1)
    counts = (index < samples) & (position >= -1) & (position <= length)
    position = position.clamp(0, length - 1)
    low = position.floor()
    weight_of_high = position - low
    low = low.long()
    high = (low + 1).clamp(max=length - 1)
    weights = position.new_zeros(position.shape[:2] + (length, ))
    weights.scatter_add_(2, low, (1 - weight_of_high) * counts)
    weights.scatter_add_(2, high, weight_of_high * counts)
    return weights / samples.clamp(min=1)
