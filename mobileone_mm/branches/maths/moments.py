"""First two moments of the patches of its input that a convolution reads.

A batch norm of a linear map ``y = w p`` needs only ``E[y] = w E[p]`` and
``Var[y] = w Cov[p] w^T``, so the moments of the patches ``p`` serve any number of branches.

Pure functions on tensors; torch only. Shapes::

    x      (B, C, H, W)   input, contiguous or channels_last
    p      the K inputs that one output position reads; positions o = 1 ... n, n = B * H_out * W_out
    mean   (K,)     dense convolution: K = C * kh * kw;    (C, K) depthwise: K = kh * kw
    cov    (K, K)   dense convolution;                     (C, K, K) depthwise

Moments of float16 and bfloat16 inputs are accumulated and returned in float32. Means are in
float64: if the mean is large relative to the deviation, a rounded mean would shift every output.
"""

from typing import Iterator, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .norm_algebra import MAX_OFFSET_SQUARED, is_small

__all__ = [
    'ConvShape', 'Moments', 'NearlyCentered', 'accumulation_dtype', 'add_symmetric_product',
    'are_small', 'mirror', 'gram', 'channel_sum', 'channel_sum_squares', 'remove_mean_',
    'has_small_means', 'nearly_centered', 'dense_moments',
    'depthwise_patch_moments', 'dense_input_grad', 'depthwise_patch_input_grad',
]


class ConvShape(NamedTuple):
    """The part of a convolution that decides which inputs an output reads; square kernels."""

    kernel_size: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def out_size(self, size: int) -> int:
        """Outputs along an axis of ``size`` inputs."""
        reach = self.dilation * (self.kernel_size - 1) + 1
        return (size + 2 * self.padding - reach) // self.stride + 1


class Moments(NamedTuple):
    """``mean = sum_o p_o / n`` in float64 and ``cov = sum_o (p_o - mean)(p_o - mean)^T / n``."""

    mean: Tensor
    cov: Tensor
    count: int  # type: ignore[assignment]  # tuple's own count() is not needed

    @classmethod
    def of_sums(cls, sums: Tensor, second: Tensor, count: int,
                shift: Optional[Tensor] = None) -> 'Moments':
        """From ``sum_o q_o`` and ``sum_o q_o q_o^T`` of ``q = p - shift``; changes ``second``."""
        mean = sums.double() / count
        cov = remove_mean_(second.div_(count), mean)
        return cls(mean if shift is None else mean + shift.double(), cov, count)


def remove_mean_(second: Tensor, mean: Tensor) -> Tensor:
    """From second moments to a covariance: ``second -= mean mean^T``."""
    return second.sub_((mean.unsqueeze(-1) * mean.unsqueeze(-2)).to(second.dtype))


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for itself, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def channel_sum(x: Tensor) -> Tensor:
    """``sum_o x_o`` of each channel: (C,)."""
    return x.sum((0, 2, 3))


def channel_sum_squares(x: Tensor) -> Tensor:
    """``sum_o x_o^2`` of each channel: (C,)."""
    if x.is_contiguous():
        return torch.linalg.vector_norm(x, dim=(2, 3)).square_().sum(0)
    return channel_sum(x * x)


class NearlyCentered(NamedTuple):
    """A map with small means, ``x - shift``, and its sums.

    ``shift`` (C,), ``None`` for zero; ``sums`` and ``squares`` (C,): of ``x - shift`` and of its
    square over all positions.
    """

    x: Tensor
    shift: Optional[Tensor]
    sums: Tensor
    squares: Tensor


def has_small_means(sums: Tensor, squares: Tensor, count: int) -> bool:
    """Whether sums of squares over ``count`` values keep their digits without centering.

    ``mean^2 <= r var`` in every channel, that is ``(sum x)^2 (1 + r) <= r n sum x^2``. This holds
    for most maps after a ReLU, and saves passes over them.
    """
    bound = count * MAX_OFFSET_SQUARED / (1 + MAX_OFFSET_SQUARED)
    return bool((sums * sums <= squares * bound).all())


def are_small(mean: Tensor, var: Tensor) -> bool:
    """:func:`has_small_means` of a map with these moments."""
    return bool(is_small(mean, var).all())


def nearly_centered(x: Tensor, inplace: bool = False) -> NearlyCentered:
    """Subtract each channel's mean over the first image if sums of squares would cancel.

    Of B images, that mean is within sqrt(B) deviations of the mean over all of them.
    """
    near = NearlyCentered(x, None, channel_sum(x), channel_sum_squares(x))
    if has_small_means(near.sums, near.squares, x.numel() // x.shape[1]):
        return near
    shift = x[0].mean((1, 2))
    column = shift.view(1, -1, 1, 1)
    x = x.sub_(column) if inplace else x - column
    return NearlyCentered(x, shift, channel_sum(x), channel_sum_squares(x))


def patches(x: Tensor, shape: ConvShape) -> Tensor:
    """The patches that each channel's kernel reads.

    Args:
        x: (B, C, H, W).
        shape: Shape of the convolution.

    Returns:
        (B, C, K, H_out * W_out), zero where the kernel reaches outside.
    """
    out = [shape.out_size(size) for size in x.shape[2:]]
    padded = F.pad(x, [shape.padding] * 4).contiguous()
    lead, (row, column) = padded.stride()[:2], padded.stride()[2:]
    taps = [shape.kernel_size] * 2
    # One strided copy (always a copy: taps share memory) is faster than torch's unfold.
    view = padded.as_strided(
        (*x.shape[:2], *taps, *out),
        (*lead, row * shape.dilation, column * shape.dilation, row * shape.stride,
         column * shape.stride))
    p = x.new_empty(view.shape).copy_(view)
    return p.view(*x.shape[:2], shape.kernel_size**2, out[0] * out[1])


def scatter_patches(p: Tensor, size: Sequence[int], shape: ConvShape) -> Tensor:
    """Adjoint of :func:`patches`: every input sums the values at its places in all patches.

    Args:
        p: (B, C, K, H_out * W_out).
        size: (H, W).
        shape: Shape of the convolution.

    Returns:
        (B, C, H, W).
    """
    x = F.fold(p.flatten(0, 1), tuple(size), shape.kernel_size, shape.dilation, shape.padding,
               shape.stride)
    return x.view(*p.shape[:2], *size)


def _patch_mean(x: Tensor, shape: ConvShape, dtype: torch.dtype) -> Tensor:
    """``mean[c, t] = sum_o x[c, o + t] / n``: (C, K)."""
    image = x.to(dtype).sum(0, keepdim=True)
    p = patches(image, shape)[0]
    return p.sum(2).div_(x.shape[0] * p.shape[2])


# Elements of a chunk of patches: larger ones leave the cache, smaller ones cost calls.
CHUNK_ELEMENTS = 1 << 18


def _chunks(x: Tensor, shape: ConvShape) -> Iterator[Tuple[int, slice]]:
    """(image, channels) pieces whose patches fit :data:`CHUNK_ELEMENTS`."""
    batch, channels, height, width = x.shape
    per_channel = shape.kernel_size**2 * shape.out_size(height) * shape.out_size(width)
    step = max(1, min(channels, CHUNK_ELEMENTS // max(1, per_channel)))
    for image in range(batch):
        for start in range(0, channels, step):
            yield image, slice(start, min(channels, start + step))


def depthwise_patch_moments(x: Tensor, shape: ConvShape) -> Moments:
    """Moments of each channel's patches, from the patches themselves, for any stride and dilation.

    Returns:
        mean (C, K), cov (C, K, K).
    """
    dtype = accumulation_dtype(x.dtype)
    x = x.contiguous()
    second, sums, count = _patch_sums(x, shape, dtype, None)
    shift = None
    if not has_small_means(sums, second.diagonal(dim1=1, dim2=2), count):
        shift = _patch_mean(x, shape, dtype)
        second, sums, count = _patch_sums(x, shape, dtype, shift)
    return Moments.of_sums(sums, second, count, shift)


def _patch_sums(x: Tensor, shape: ConvShape, dtype: torch.dtype,
                shift: Optional[Tensor]) -> Tuple[Tensor, Tensor, int]:
    """``sum_o q_o q_o^T`` and ``sum_o q_o`` of ``q = p - shift``, and n."""
    taps = shape.kernel_size**2
    second = x.new_zeros(x.shape[1], taps, taps, dtype=dtype)
    sums = second.new_zeros(x.shape[1], taps)
    for image, part in _chunks(x, shape):
        p = patches(x[image:image + 1, part].to(dtype), shape)[0]
        if shift is not None:
            p -= shift[part].unsqueeze(2)
        second[part].baddbmm_(p, p.transpose(1, 2))
        sums[part] += p.sum(2)
    return second, sums, x.shape[0] * p.shape[2]


def depthwise_patch_input_grad(x: Tensor, shape: ConvShape, quadratic: Tensor, linear: Tensor,
                               grad: Tensor, kernel: Tensor) -> Tensor:
    """Gradient through the folded depthwise convolution and the moments, from the patches.

    ``dp_o = kernel g_o + quadratic p_o + linear``, summed into the input.

    Args:
        x: (B, C, H, W).
        shape: Shape of the convolution.
        quadratic: (C, K, K).
        linear: (C, K).
        grad: (B, C, H_out, W_out), gradient of the convolution's output.
        kernel: (C, K).

    Returns:
        (B, C, H, W).
    """
    dtype = quadratic.dtype
    x = x.contiguous()
    g = grad.flatten(2)
    dx = torch.empty_like(x)
    for image, part in _chunks(x, shape):
        p = patches(x[image:image + 1, part].to(dtype), shape)[0]
        dp = torch.baddbmm(linear[part].unsqueeze(2), quadratic[part], p)
        dp.baddbmm_(kernel[part].unsqueeze(2), g[image, part].to(dtype).unsqueeze(1))
        dx[image, part] = scatter_patches(dp.unsqueeze(0), x.shape[2:], shape)[0].to(x.dtype)
    return dx


def _dense_patches(x: Tensor, shape: ConvShape, image: int, dtype: torch.dtype) -> Tensor:
    """(C * kh * kw, positions) of one image, in the order of a convolution's weight."""
    one = x[image:image + 1].to(dtype)
    if shape == ConvShape():
        return one.reshape(one.shape[1], -1)
    return patches(one, shape)[0].flatten(0, 1)


def dense_moments(x: Tensor, shape: ConvShape) -> Moments:
    """Moments over all channels of a patch: the centered Gram matrix.

    ``cov = (P - mean)(P - mean)^T / n``, P the (K, n) patches; K = C for a pointwise convolution.
    The raw Gram ``P P^T / n - mean mean^T`` would cancel at large means, down to negative
    variances.

    Returns:
        mean (K,), cov (K, K).
    """
    dtype = accumulation_dtype(x.dtype)
    x = x.to(dtype)
    if shape == ConvShape():
        x = _as_one_image(x)
        sums, count = channel_sum(x), x.numel() // x.shape[1]
        if has_small_means(sums, channel_sum_squares(x), count):
            return Moments.of_sums(sums, gram(x), count)
        shift = sums / count
    else:
        shift = _patch_mean(x, shape, dtype).flatten()
    cov = x.new_zeros(shift.numel(), shift.numel())
    rest = torch.zeros_like(shift)
    centered: Optional[Tensor] = None
    for image in range(x.shape[0]):
        p = _dense_patches(x, shape, image, dtype)
        if centered is None:
            centered = torch.empty_like(p, memory_format=torch.contiguous_format)
        torch.sub(p, shift.unsqueeze(1), out=centered)
        rest += centered.sum(1)
        cov.addmm_(centered, centered.t())
    return Moments.of_sums(rest, cov, x.shape[0] * p.shape[1], shift)


# Matrix products with fewer positions per image are slow.
SMALL_MAP = 64


def _as_one_image(x: Tensor) -> Tensor:
    """Images of a few positions each side by side, (1, C, 1, B * H * W); others as they are."""
    if x.shape[0] == 1 or x.shape[2] * x.shape[3] >= SMALL_MAP:
        return x
    return x.transpose(0, 1).reshape(1, x.shape[1], 1, -1)


def add_symmetric_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left right`` (C, n) (n, C), known to be symmetric, to the blocks above the diagonal."""
    channels = len(out)
    step = max(32, -(-channels // 4))  # smaller products are slower
    for start in range(0, channels, step):
        out[start:start + step, start:].addmm_(left[start:start + step], right[:, start:])


def mirror(out: Tensor) -> Tensor:
    """Copy what is above the diagonal to below it, in place."""
    return out.triu_().add_(out.triu(1).t())


def gram(x: Tensor) -> Tensor:
    """``X X^T`` over all positions: (C, C)."""
    x = _as_one_image(x)
    if len(x) > 1 and torch.get_num_threads() > 1:
        return mirror(_upper_products(x.flatten(2)))
    result = x.new_zeros(x.shape[1], x.shape[1])
    for image in x:
        p = image.flatten(1)
        add_symmetric_product(result, p, p.t())
    return mirror(result)


def _upper_products(p: Tensor) -> Tensor:
    """``sum_b p_b p_b^T`` (B, C, n) in blocks above the diagonal: threads share the images."""
    channels = p.shape[1]
    result = p.new_zeros(channels, channels)
    step = max(32, -(-channels // 4))
    for start in range(0, channels, step):
        torch.sum(torch.bmm(p[:, start:start + step], p[:, start:].transpose(1, 2)), 0,
                  out=result[start:start + step, start:])
    return result


def dense_input_grad(x: Tensor, shape: ConvShape, quadratic: Tensor, linear: Tensor,
                     grad: Tensor, kernel: Tensor) -> Tensor:
    """Gradient through the folded dense convolution and the moments.

    ``dP = kernel^T G + quadratic P + linear``, summed into the input.

    Args:
        x: (B, C, H, W).
        shape: Shape of the convolution.
        quadratic: (K, K).
        linear: (K,).
        grad: (B, C_out, H_out, W_out), gradient of the convolution's output.
        kernel: (C_out, K).

    Returns:
        (B, C, H, W).
    """
    dtype = quadratic.dtype
    if shape == ConvShape() and _as_one_image(x) is not x:
        dx = dense_input_grad(_as_one_image(x), shape, quadratic, linear, _as_one_image(grad),
                              kernel)
        return dx.view(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1).contiguous()
    if shape == ConvShape() and x.dtype == grad.dtype == dtype and x.is_contiguous():
        left, right = (m.expand(len(x), *m.shape) for m in (quadratic, kernel.t()))
        flat = torch.baddbmm(linear.view(1, -1, 1), left, x.flatten(2))
        return flat.baddbmm_(right, grad.flatten(2)).view_as(x)
    dx = torch.empty_like(x)
    for image in range(x.shape[0]):
        g = grad[image].to(dtype).flatten(1)
        p = _dense_patches(x, shape, image, dtype)
        dp = torch.addmm(linear.unsqueeze(1), quadratic, p).addmm_(kernel.t(), g)
        if shape == ConvShape():
            dx[image] = dp.view(x.shape[1:])
        else:
            dp = dp.view(1, x.shape[1], -1, dp.shape[1])
            dx[image] = scatter_patches(dp, x.shape[2:], shape)[0]
    return dx
