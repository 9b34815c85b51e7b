"""Triton kernels for pointwise blocks, whose k branches are folded with the input's covariance.

The equations are those of :mod:`.reference`. Maps (C, n) are contiguous or channels_last, read in
their own dtype; products are accumulated in float32. The flat parameters begin with ``W``
(k, OUT, C); gammas and betas (b, OUT) follow. The identity, if any, is the last branch.

Kernels take tensors and sizes one by one: in a tuple, Triton would compile a kernel anew for each
size, since ``do_not_specialize`` does not reach into tuples.
"""

import triton
import triton.language as tl

SAMPLES = tl.constexpr(256)
AT_ONCE = tl.constexpr(8)  # partial sums loaded together


@triton.jit
def chunk_at(index, area, BP: tl.constexpr):
    """Where the image of a chunk starts among a channel's positions, and the chunk in its image.

    A channels_last map counts as one image.
    """
    chunks = tl.cdiv(area, BP)
    return (index // chunks).to(tl.int64) * area, (index % chunks) * BP


@triton.jit
def load_map(x, c, p, C, area, NHWC: tl.constexpr):
    """Values at channels c and positions p of the image at x, 0 beyond its end."""
    ok = (c < C) & (p < area)
    return tl.load(x + map_offset(c, p, C, area, NHWC), mask=ok, other=0.)


@triton.jit
def map_offset(c, p, C, area, NHWC: tl.constexpr):
    """The offset of channel c at position p in an image."""
    if NHWC:
        return p.to(tl.int64) * C + c
    else:
        return c * area + p


@triton.jit
def load_grad(g, y, c, p, C, area, RELU: tl.constexpr, NHWC: tl.constexpr):
    """The output's gradient if the output is positive."""
    d = load_map(g, c, p, C, area, NHWC)
    if RELU:
        d = tl.where(load_map(y, c, p, C, area, NHWC).to(tl.float32) > 0, d, 0.).to(d.dtype)
    return d


@triton.jit(do_not_specialize=['area', 'n'])
def sample_mean(x, shift, C, area, n, NHWC: tl.constexpr, BLOCK: tl.constexpr):
    """Each channel's mean over some positions of all images."""
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    step = tl.cdiv(n, SAMPLES)
    p = tl.arange(0, SAMPLES)[None, :] * step
    at = x + (p // area).to(tl.int64) * C * area + map_offset(c, p % area, C, area, NHWC)
    v = tl.load(at, mask=(c < C) & (p < n), other=0.).to(tl.float32)
    mean = tl.sum(v, 1, keep_dims=True) / tl.cdiv(n, step)
    tl.store(shift + c, mean, mask=c < C)


@triton.jit(do_not_specialize=['units', 'count', 'per'])
def outer_sums(a, y, x, shift, part, rows, A, C, units, count, per, UNIT: tl.constexpr,
               GRAM: tl.constexpr, CENTERED: tl.constexpr, RELU: tl.constexpr, NHWC: tl.constexpr,
               PRECISION: tl.constexpr, BA: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr):
    """``part[split]``: sums of ``a q^T`` (A, C). ``rows[split]``: sums of ``a`` (A,).

    ``q`` is x, minus its shift if CENTERED. If GRAM, ``a`` is q too, and only tiles on and above
    the diagonal are computed. Otherwise ``a`` is the output's gradient.
    """
    across = tl.cdiv(C, BC)
    row = tl.program_id(0) // across
    col = tl.program_id(0) % across
    split = tl.program_id(1)
    if GRAM:
        if col < row:
            return
    i = row * BA + tl.arange(0, BA)[:, None]
    j = col * BC + tl.arange(0, BC)[:, None]
    shift_j = tl.load(shift + j, mask=j < C, other=0.)
    if GRAM:
        shift_i = tl.load(shift + i, mask=i < C, other=0.)
    acc = tl.zeros((BA, BC), tl.float32)
    total = tl.zeros((BA, BP), tl.float32)
    area = units * UNIT
    for index in range(split * per, tl.minimum((split + 1) * per, count)):
        image, first = chunk_at(index, area, BP)
        p = first + tl.arange(0, BP)[None, :]
        q = load_map(x + image * C, j, p, C, area, NHWC)
        if CENTERED:
            q = tl.where(p < area, q.to(tl.float32) - shift_j, 0.).to(x.dtype.element_ty)
        if GRAM:
            left = load_map(x + image * C, i, p, C, area, NHWC).to(tl.float32)
            left = tl.where(p < area, left - shift_i, 0.)
            total += left
            left = left.to(x.dtype.element_ty)
        else:
            left = load_grad(a + image * A, y + image * A, i, p, A, area, RELU, NHWC)
            total += left.to(tl.float32)
        acc = tl.dot(left, tl.trans(q), acc, input_precision=PRECISION)
    out = part + split.to(tl.int64) * A * C
    jt = col * BC + tl.arange(0, BC)[None, :]
    tl.store(out + i * C + jt, acc, mask=(i < A) & (jt < C))
    if col == row * GRAM:
        tl.store(rows + split * A + i, tl.sum(total, 1, keep_dims=True), mask=i < A)


@triton.jit(do_not_specialize=['n', 'splits', 'TILE'])
def covariance(part, rows, cov, rest, C, n, splits, TILE, BLOCK: tl.constexpr):
    """The covariance of the input from :func:`outer_sums`, and its mean minus the shift."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    i, j = row[:, None], col[None, :]
    ok = (i < C) & (j < C)
    at = tl.where(i // TILE <= j // TILE, i * C + j, j * C + i)
    acc = tl.zeros((BLOCK, BLOCK), tl.float64)
    rest_i = tl.zeros((BLOCK,), tl.float64)
    rest_j = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, splits, AT_ONCE):
        s = start + tl.arange(0, AT_ONCE)
        more = tl.load(part + s[:, None, None] * C * C + at[None, :, :],
                       mask=(s < splits)[:, None, None] & ok[None, :, :], other=0.)
        acc += tl.sum(more.to(tl.float64), 0)
        s = s[:, None]
        more = tl.load(rows + s * C + row[None, :], mask=(s < splits) & (row < C)[None, :],
                       other=0.)
        rest_i += tl.sum(more.to(tl.float64), 0)
        more = tl.load(rows + s * C + col[None, :], mask=(s < splits) & (col < C)[None, :],
                       other=0.)
        rest_j += tl.sum(more.to(tl.float64), 0)
    count = n.to(tl.float64)
    rest_i = (rest_i / count)[:, None]
    rest_j = (rest_j / count)[None, :]
    tl.store(cov + i * C + j, (acc / count - rest_i * rest_j).to(tl.float32), mask=ok)
    if tl.program_id(1) == 0:
        tl.store(rest + i, rest_i.to(tl.float32), mask=i < C)


@triton.jit(do_not_specialize=['n', 'K', 'SKIP'])
def fold_forward(flat, products, cov, rest, shift, kernel, bias, scale, inv, stats, OUT, C, n, eps,
                 K, SKIP, BRANCHES: tl.constexpr, BLOCK: tl.constexpr):
    """One program per output channel: variances, the folded kernel and bias.

    ``kernel`` is in the maps' dtype; the bias makes up for its rounding errors at the mean.
    ``stats`` gets each branch's batch mean and unbiased variance, 2 (b, OUT).
    """
    o = tl.program_id(0)
    NORMS = K + SKIP
    b = tl.arange(0, BRANCHES)[:, None]
    var = tl.zeros((BRANCHES, BLOCK), tl.float32)
    mean = tl.zeros((BRANCHES, BLOCK), tl.float64)
    for start in range(0, C, BLOCK):
        c = start + tl.arange(0, BLOCK)[None, :]
        at = (b * OUT + o) * C + c
        own = (b < K) & (c < C)
        w = tl.load(flat + at, mask=own, other=0.)
        var += w * tl.load(products + at, mask=own, other=0.)
        mu = (tl.load(rest + c, mask=c < C, other=0.).to(tl.float64)
              + tl.load(shift + c, mask=c < C, other=0.).to(tl.float64))
        same = (SKIP > 0) & (b == K) & (c == o)
        w = tl.where(same, 1., w)
        var += tl.load(cov + o * C + c + b * 0, mask=same, other=0.)
        mean += w.to(tl.float64) * mu
    var = tl.maximum(tl.sum(var, 1, keep_dims=True), 0.)
    mean = tl.sum(mean, 1, keep_dims=True)
    norm = b < NORMS
    affine = flat + K * OUT * C
    gamma = tl.load(affine + b * OUT + o, mask=norm, other=0.)
    beta = tl.load(affine + (NORMS + b) * OUT + o, mask=norm, other=0.)
    iv = 1. / tl.sqrt(var + eps)
    a = iv * gamma
    tl.store(scale + b * OUT + o, a, mask=norm)
    tl.store(inv + b * OUT + o, iv, mask=norm)
    tl.store(stats + b * OUT + o, mean.to(tl.float32), mask=norm)
    count = n.to(tl.float64)
    tl.store(stats + (NORMS + b) * OUT + o, var * (count / (count - 1)).to(tl.float32), mask=norm)
    at_mean = tl.zeros((1, BLOCK), tl.float64)
    for start in range(0, C, BLOCK):
        c = start + tl.arange(0, BLOCK)[None, :]
        w = tl.load(flat + (b * OUT + o) * C + c, mask=(b < K) & (c < C), other=0.)
        w = tl.where((SKIP > 0) & (b == K) & (c == o), 1., w)
        row = tl.sum(w * a, 0, keep_dims=True).to(kernel.dtype.element_ty)
        tl.store(kernel + o * C + c, row, mask=c < C)
        mu = (tl.load(rest + c, mask=c < C, other=0.).to(tl.float64)
              + tl.load(shift + c, mask=c < C, other=0.).to(tl.float64))
        at_mean += row.to(tl.float64) * mu
    total = tl.sum(tl.sum(beta, 0), 0).to(tl.float64) - tl.sum(tl.sum(at_mean, 1), 0)
    tl.store(bias + o, total.to(tl.float32))


@triton.jit(do_not_specialize=['units'])
def product_bias_relu(x, kernel, bias, y, C, OUT, units, UNIT: tl.constexpr, RELU: tl.constexpr,
                      NHWC: tl.constexpr, PRECISION: tl.constexpr, BO: tl.constexpr,
                      BC: tl.constexpr, BP: tl.constexpr):
    """``y = relu(kernel x + bias)``."""
    tiles = tl.cdiv(OUT, BO)
    first_o = (tl.program_id(0) % tiles) * BO
    area = units * UNIT
    image, first_p = chunk_at(tl.program_id(0) // tiles, area, BP)
    x += image * C
    y += image * OUT
    if NHWC:
        p = first_p + tl.arange(0, BP)[:, None]
        o = first_o + tl.arange(0, BO)[None, :]
        acc = tl.zeros((BP, BO), tl.float32)
        for start in range(0, C, BC):
            c = start + tl.arange(0, BC)
            v = load_map(x, c[None, :], p, C, area, NHWC)
            w = tl.load(kernel + o * C + c[:, None], mask=(o < OUT) & (c[:, None] < C), other=0.)
            acc = tl.dot(v, w, acc, input_precision=PRECISION)
    else:
        p = first_p + tl.arange(0, BP)[None, :]
        o = first_o + tl.arange(0, BO)[:, None]
        acc = tl.zeros((BO, BP), tl.float32)
        for start in range(0, C, BC):
            c = start + tl.arange(0, BC)
            v = load_map(x, c[:, None], p, C, area, NHWC)
            w = tl.load(kernel + o * C + c[None, :], mask=(o < OUT) & (c[None, :] < C), other=0.)
            acc = tl.dot(w, v, acc, input_precision=PRECISION)
    acc += tl.load(bias + o, mask=o < OUT, other=0.)
    if RELU:
        acc = tl.maximum(acc, 0.)
    tl.store(y + map_offset(o, p, OUT, area, NHWC), acc.to(y.dtype.element_ty),
             mask=(o < OUT) & (p < area))


@triton.jit(do_not_specialize=['n', 'splits', 'K', 'SKIP'])
def fold_backward(part, rows, flat, products, rest, shift, scale, inv, grads, scaled, OUT, C, n,
                  splits, K, SKIP, CENTERED: tl.constexpr,
                  BRANCHES: tl.constexpr, PAD: tl.constexpr, BLOCK: tl.constexpr):
    """One program per output channel: gradients of its parameters.

    ``scaled`` (b, OUT, C + PAD) gets each branch's weights times ``2/n dvar``, then ``dmean / n``
    in column C, then zeros. The identity, if any, is one more branch there.
    """
    o = tl.program_id(0)
    NORMS = K + SKIP
    b = tl.arange(0, BRANCHES)[:, None]
    total = tl.zeros((1, 1), tl.float64)
    for s in range(splits):
        total += tl.load(rows + s * OUT + o).to(tl.float64)
    d_scale = tl.zeros((BRANCHES, BLOCK), tl.float32)
    for start in range(0, C, BLOCK):
        c = start + tl.arange(0, BLOCK)[None, :]
        g = centered_row(part, rest, shift, total, o, c, OUT, C, splits, CENTERED, BLOCK)
        w = tl.load(flat + (b * OUT + o) * C + c, mask=(b < K) & (c < C), other=0.)
        w = tl.where((SKIP > 0) & (b == K) & (c == o), 1., w)
        d_scale += w * g
    norm = b < NORMS
    a = tl.load(scale + b * OUT + o, mask=norm, other=0.)
    iv = tl.load(inv + b * OUT + o, mask=norm, other=0.)
    d_gamma = tl.sum(d_scale, 1, keep_dims=True) * iv
    d_var = d_gamma * a * iv * -0.5
    affine = grads + K * OUT * C
    tl.store(affine + b * OUT + o, d_gamma, mask=norm)
    tl.store(affine + (NORMS + b) * OUT + o, total.to(tl.float32) + d_gamma * 0., mask=norm)
    count = n.to(tl.float32)
    d_mean = a * (-total.to(tl.float32) / count)
    for start in range(0, C + PAD, BLOCK):
        c = start + tl.arange(0, BLOCK)[None, :]
        g = centered_row(part, rest, shift, total, o, c, OUT, C, splits, CENTERED, BLOCK)
        at = (b * OUT + o) * C + c
        own = (b < K) & (c < C)
        w = tl.load(flat + at, mask=own, other=0.)
        d_weight = a * g + 2. * d_var * tl.load(products + at, mask=own, other=0.)
        tl.store(grads + at, d_weight, mask=own)
        w = tl.where((SKIP > 0) & (b == K) & (c == o), 1., w)
        w = w * d_var * (2. / count)
        w = tl.where(c == C, d_mean, w)
        tl.store(scaled + (b * OUT + o) * (C + PAD) + c, w, mask=norm & (c < C + PAD))


@triton.jit
def centered_row(part, rest, shift, total, o, c, OUT, C, splits, CENTERED: tl.constexpr,
                BLOCK: tl.constexpr):
    """Row o of the folded kernel's gradient, centered: with the input minus its mean."""
    g = tl.zeros((1, BLOCK), tl.float64)
    for s in range(splits):
        g += tl.load(part + (s * OUT + o) * C + c, mask=c < C, other=0.).to(tl.float64)
    mu = tl.load(rest + c, mask=c < C, other=0.).to(tl.float64)
    if not CENTERED:
        mu += tl.load(shift + c, mask=c < C, other=0.).to(tl.float64)
    return (g - total * mu).to(tl.float32)


@triton.jit(do_not_specialize=['K', 'SKIP'])
def finish_quadratic(product, scaled, rest, shift, quad, quad_scale, linear, OUT, C,
                     K, SKIP, CENTERED: tl.constexpr, PAD: tl.constexpr, BLOCK: tl.constexpr):
    """One program per channel: its row of the quadratic part, scaled to at most 1, and the linear.

    ``product`` (C + PAD, C) is that of the branches with weights; the identity is added here.
    """
    r = tl.program_id(0)
    identity = scaled + (K * OUT + r) * (C + PAD)
    own = tl.load(identity + r, mask=SKIP > 0, other=0.)
    most = tl.zeros((1, BLOCK), tl.float32)
    at_mean = tl.zeros((1, BLOCK), tl.float64)
    for start in range(0, C, BLOCK):
        c = start + tl.arange(0, BLOCK)[None, :]
        v = tl.load(product + r * C + c, mask=c < C, other=0.)
        v += tl.where(c == r, own, 0.)
        most = tl.maximum(most, tl.abs(v))
        mu = tl.load(rest + c, mask=c < C, other=0.).to(tl.float64)
        if not CENTERED:
            mu += tl.load(shift + c, mask=c < C, other=0.).to(tl.float64)
        at_mean += v.to(tl.float64) * mu
    top = tl.max(most, 1, keep_dims=True)
    top = tl.where(top > 0, top, 1.)
    for start in range(0, C, BLOCK):
        c = start + tl.arange(0, BLOCK)[None, :]
        v = tl.load(product + r * C + c, mask=c < C, other=0.)
        v += tl.where(c == r, own, 0.)
        tl.store(quad + r * C + c, (v / top).to(quad.dtype.element_ty), mask=c < C)
    tl.store(quad_scale + r + tl.zeros((1, 1), tl.int32), top)
    value = tl.load(product + C * C + r).to(tl.float64) - tl.sum(tl.sum(at_mean, 1), 0)
    value += tl.load(identity + C, mask=SKIP > 0, other=0.).to(tl.float64)
    tl.store(linear + r, value.to(tl.float32))


@triton.jit(do_not_specialize=['units'])
def input_grad(x, g, y, kernel, quad, quad_scale, linear, shift, dx, C, OUT, units,
               UNIT: tl.constexpr, RELU: tl.constexpr, CENTERED: tl.constexpr, NHWC: tl.constexpr,
               PRECISION: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr, BP: tl.constexpr):
    """``dx = kernel^T g' + quad x + linear``, with x minus its shift if CENTERED."""
    tiles = tl.cdiv(C, BC)
    first_c = (tl.program_id(0) % tiles) * BC
    area = units * UNIT
    image, first_p = chunk_at(tl.program_id(0) // tiles, area, BP)
    x += image * C
    dx += image * C
    g += image * OUT
    y += image * OUT
    if NHWC:
        p = first_p + tl.arange(0, BP)[:, None]
        c = first_c + tl.arange(0, BC)[None, :]
        acc = tl.zeros((BP, BC), tl.float32)
    else:
        p = first_p + tl.arange(0, BP)[None, :]
        c = first_c + tl.arange(0, BC)[:, None]
        acc = tl.zeros((BC, BP), tl.float32)
    for start in range(0, C, BK):
        d = start + tl.arange(0, BK)
        if NHWC:
            e, f = d[None, :], d[:, None]
        else:
            e, f = d[:, None], d[None, :]
        v = load_map(x, e, p, C, area, NHWC)
        if CENTERED:
            v = v - tl.load(shift + e, mask=e < C, other=0.)
        w = tl.load(quad + c * C + f, mask=(c < C) & (f < C), other=0.)
        if NHWC:
            acc = tl.dot(v, w, acc, input_precision=PRECISION)
        else:
            acc = tl.dot(w, v, acc, input_precision=PRECISION)
    acc = acc * tl.load(quad_scale + c, mask=c < C, other=0.)
    acc += tl.load(linear + c, mask=c < C, other=0.)
    for start in range(0, OUT, BK):
        d = start + tl.arange(0, BK)
        if NHWC:
            e, f = d[None, :], d[:, None]
        else:
            e, f = d[:, None], d[None, :]
        v = load_grad(g, y, e, p, OUT, area, RELU, NHWC)
        w = tl.load(kernel + f * C + c, mask=(c < C) & (f < OUT), other=0.)
        if NHWC:
            acc = tl.dot(v, w, acc, input_precision=PRECISION)
        else:
            acc = tl.dot(w, v, acc, input_precision=PRECISION)
    tl.store(dx + map_offset(c, p, C, area, NHWC), acc.to(dx.dtype.element_ty),
             mask=(c < C) & (p < area))
