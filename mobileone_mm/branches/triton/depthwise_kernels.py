"""Triton kernels for depthwise 3x3 blocks with any number of branches, stride and dilation.

The equations are those of :mod:`.reference`. Maps are contiguous or channels_last. A program works
on tiles of rows x columns of one channel, or of positions x channels. A tap's value ``q`` is the
input minus the channel's ``shift``, *even outside the image*, where the input is 0. So the
covariances are those of the patches, including borders.

One float32 buffer holds everything that the forward pass keeps for the backward pass
(:func:`.reference.state_sizes`). Parameters and their gradients are flat too: weights of the 3x3
branches, of the 1x1 branch, gammas, betas. Why arguments are not grouped:
:mod:`.pointwise_kernels`.
"""

import triton
import triton.language as tl

REST = tl.constexpr(1)  # after the shift; scale, inv, products, kernel and bias follow
SCALES = tl.constexpr(10)


@triton.jit
def channel_index(C, NHWC: tl.constexpr, COLS: tl.constexpr):
    """The channels of this program, (1, 1) or (1, COLS), and which of them exist."""
    if NHWC:
        c = tl.program_id(1) * COLS + tl.arange(0, COLS)[None, :]
    else:
        c = tl.program_id(1) + tl.zeros((1, 1), tl.int32)
    return tl.minimum(c, C - 1), c < C


@triton.jit
def locate(tile, n, H, W, NHWC: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Image, row and column of a tile's positions, and which of them exist; n = B * H * W."""
    if NHWC:
        p = tile * ROWS + tl.arange(0, ROWS)[:, None]
    else:
        p = tile * COLS + tl.arange(0, COLS)[None, :]
    r = p // W
    return r // H, r % H, p % W, p < n


@triton.jit
def image_offset(b, c, C, H, W, NHWC: tl.constexpr):
    """The offset of the first pixel of image b, channel c."""
    if NHWC:
        return b.to(tl.int64) * (C * H * W) + c
    else:
        return (b.to(tl.int64) * C + c) * (H * W)


@triton.jit
def pixel_offset(h, w, C, W, NHWC: tl.constexpr):
    """The offset from a pixel to the one h rows below and w columns to the right."""
    if NHWC:
        return (h * W + w) * C
    else:
        return h * W + w


@triton.jit
def inside(h, w, H, W):
    """Whether a pixel exists; rows and columns are checked before they are combined."""
    return ((h >= 0) & (h < H)) & ((w >= 0) & (w < W))


@triton.jit
def load_near(at, h, w, dh, dw, ok, C, H, W, NHWC: tl.constexpr):
    """The value dh rows and dw columns away from (h, w), where ``at`` points; 0 outside."""
    ok = ok & inside(h + dh, w + dw, H, W)
    return tl.load(at + pixel_offset(dh, dw, C, W, NHWC), mask=ok, other=0.).to(tl.float32)


@triton.jit
def near_grad(g, y, offset, h, w, dh, dw, ok, C, H, W, RELU: tl.constexpr, NHWC: tl.constexpr):
    """The output's gradient there, if the output is positive."""
    d = load_near(g + offset, h, w, dh, dw, ok, C, H, W, NHWC)
    if RELU:
        d = tl.where(load_near(y + offset, h, w, dh, dw, ok, C, H, W, NHWC) > 0, d, 0.)
    return d


@triton.jit
def store_sums(out, values, c, valid, STEP: tl.constexpr, NHWC: tl.constexpr):
    """Write a tile's sum per channel; the sums are STEP values apart."""
    sums = tl.sum(values, 0, keep_dims=True)
    if not NHWC:
        sums = tl.sum(sums, 1, keep_dims=True)
    tl.store(out + c * STEP, sums, mask=valid)


@triton.jit
def sample_mean(x, c, valid, C, H, W, OH, OW, n, STRIDE, NHWC: tl.constexpr,
                ROWS: tl.constexpr, COLS: tl.constexpr):
    """Each channel's mean over some positions of all images: the shift."""
    samples = ROWS * 16 if NHWC else COLS * 2
    step = tl.cdiv(n, samples)
    total = tl.zeros((ROWS, COLS), tl.float32)
    count = tl.zeros((ROWS, COLS), tl.float32)
    for tile in range(16 if NHWC else 2):
        if NHWC:
            p = (tile * ROWS + tl.arange(0, ROWS)[:, None]) * step
        else:
            p = (tile * COLS + tl.arange(0, COLS)[None, :]) * step
        ok = (p < n) & valid
        r = p // OW
        at = x + image_offset(r // OH, c, C, H, W, NHWC)
        at += pixel_offset((r % OH) * STRIDE, (p % OW) * STRIDE, C, W, NHWC)
        total += tl.load(at, mask=ok, other=0.).to(tl.float32)
        count += tl.where(ok, 1., 0.)
    total = tl.sum(total, 0, keep_dims=True)
    count = tl.sum(count, 0, keep_dims=True)
    if not NHWC:
        total = tl.sum(total, 1, keep_dims=True)
        count = tl.sum(count, 1, keep_dims=True)
    return total / tl.maximum(count, 1.)


@triton.jit(do_not_specialize=['C', 'H', 'W', 'OH', 'OW', 'n', 'per', 'STRIDE', 'DIL'])
def moments(x, part, state, C, H, W, OH, OW, n, per, STRIDE, DIL,
            NHWC: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """``part[split, c]``: sums of ``q_t q_u``, t <= u (45), and of ``q_t`` (9); the shift."""
    c, valid = channel_index(C, NHWC, COLS)
    split = tl.program_id(0)
    shift = sample_mean(x, c, valid, C, H, W, OH, OW, n, STRIDE, NHWC, ROWS, COLS)
    if split == 0:
        tl.store(state + c, shift, mask=valid)
    acc = ()
    for _ in tl.static_range(54):
        acc = acc + (tl.zeros((ROWS, COLS), tl.float32),)
    for tile in range(split * per, (split + 1) * per):
        b, oh, ow, ok = locate(tile, n, OH, OW, NHWC, ROWS, COLS)
        ok = ok & valid
        h, w = oh * STRIDE, ow * STRIDE
        at = x + image_offset(b, c, C, H, W, NHWC) + pixel_offset(h, w, C, W, NHWC)
        q = ()
        for t in tl.static_range(9):
            v = load_near(at, h, w, (t // 3 - 1) * DIL, (t % 3 - 1) * DIL, ok, C, H, W, NHWC)
            q = q + (tl.where(ok, v - shift, 0.),)
        new = ()
        for t in tl.static_range(9):
            for u in tl.static_range(t, 9):
                new = new + (acc[t * 9 - t * (t - 1) // 2 + u - t] + q[t] * q[u],)
        for t in tl.static_range(9):
            new = new + (acc[45 + t] + q[t],)
        acc = new
    out = part + split * C * 54
    for i in tl.static_range(54):
        store_sums(out + i, acc[i], c, valid, 54, NHWC)


@triton.jit(do_not_specialize=['C', 'n', 'splits', 'K', 'SCALE', 'SKIP'])
def fold_forward(part, flat, state, stats, C, n, splits, eps, K, SCALE, SKIP,
                 BRANCHES: tl.constexpr):
    """One program per channel: sums to covariances, variances, the folded kernel and bias.

    ``stats`` gets each branch's batch mean and unbiased variance, 2 (b, C).
    """
    c = tl.program_id(0)
    NORMS = K + SCALE + SKIP
    t = tl.arange(0, 16)
    branch = tl.arange(0, BRANCHES)
    lo = tl.minimum(t[:, None], t[None, :])
    hi = tl.maximum(t[:, None], t[None, :])
    pair = lo * 9 - lo * (lo - 1) // 2 + hi - lo
    square = (t[:, None] < 9) & (t[None, :] < 9)
    second = tl.zeros((16, 16), tl.float64)
    first = tl.zeros((16,), tl.float64)
    for s in range(splits):
        row = part + (s * C + c) * 54
        second += tl.load(row + pair, mask=square, other=0.).to(tl.float64)
        first += tl.load(row + 45 + t, mask=t < 9, other=0.).to(tl.float64)
    count = n.to(tl.float64)
    rest = first / count
    cov = (second / count - rest[:, None] * rest[None, :]).to(tl.float32)
    w = branch_weights(flat, c, C, K, SCALE, SKIP, BRANCHES)
    affine = flat + C * (9 * K + SCALE)
    products = tl.sum(w[:, :, None] * cov[None, :, :], 1)
    var = tl.maximum(tl.sum(products * w, 1), 0.)
    shift = tl.load(state + c).to(tl.float64)
    mean = tl.sum(w.to(tl.float64) * tl.where(t < 9, rest + shift, 0.)[None, :], 1)
    norm = branch < NORMS
    inv = 1. / tl.sqrt(var + eps)
    gamma = tl.load(affine + branch * C + c, mask=norm, other=0.)
    beta = tl.load(affine + (NORMS + branch) * C + c, mask=norm, other=0.).to(tl.float32)
    scale = inv * gamma
    kernel = tl.sum(w * scale[:, None], 0)
    bias = tl.sum(beta.to(tl.float64), 0) - tl.sum(kernel.to(tl.float64) * rest, 0)
    tl.store(state + (SCALES + 11 * NORMS) * C + c * 9 + t, kernel, mask=t < 9)
    tl.store(state + REST * C + c * 9 + t, rest.to(tl.float32), mask=t < 9)
    tl.store(state + (SCALES + 11 * NORMS + 9) * C + c, bias.to(tl.float32))
    both = norm[:, None] & (t[None, :] < 9)
    row = (SCALES + 2 * NORMS) * C + (branch[:, None] * C + c) * 9
    tl.store(state + row + t[None, :], products, mask=both)
    tl.store(state + (SCALES + branch) * C + c, scale, mask=norm)
    tl.store(state + (SCALES + NORMS + branch) * C + c, inv, mask=norm)
    tl.store(stats + branch * C + c, mean.to(tl.float32), mask=norm)
    unbiased = var * (count / (count - 1)).to(tl.float32)
    tl.store(stats + (NORMS + branch) * C + c, unbiased, mask=norm)


@triton.jit
def branch_weights(flat, c, C, K, SCALE, SKIP, BRANCHES: tl.constexpr):
    """The 3x3 kernels of channel c, (BRANCHES, 16): 1x1 and identity are a center tap."""
    t = tl.arange(0, 16)[None, :]
    branch = tl.arange(0, BRANCHES)[:, None]
    w = tl.load(flat + (branch * C + c) * 9 + t, mask=(branch < K) & (t < 9), other=0.)
    single = tl.load(flat + 9 * K * C + c)  # a gamma if there is no such branch
    w = tl.where((SCALE > 0) & (branch == K) & (t == 4), single, w)
    return tl.where((SKIP > 0) & (branch == K + SCALE) & (t == 4), 1., w)


@triton.jit(do_not_specialize=['C', 'H', 'W', 'OH', 'OW', 'n', 'STRIDE', 'DIL'])
def conv_bias_relu(x, state, kernel, y, C, H, W, OH, OW, n, STRIDE, DIL,
                   RELU: tl.constexpr, NHWC: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """``y = relu(kernel q + bias)``; the bias follows the kernel in memory."""
    c, valid = channel_index(C, NHWC, COLS)
    b, oh, ow, ok = locate(tl.program_id(0), n, OH, OW, NHWC, ROWS, COLS)
    ok = ok & valid
    h, w = oh * STRIDE, ow * STRIDE
    at = x + image_offset(b, c, C, H, W, NHWC) + pixel_offset(h, w, C, W, NHWC)
    shift = tl.load(state + c)
    v = tl.zeros((ROWS, COLS), tl.float32) + tl.load(kernel + 9 * C + c)
    for t in tl.static_range(9):
        p = load_near(at, h, w, (t // 3 - 1) * DIL, (t % 3 - 1) * DIL, ok, C, H, W, NHWC)
        v += tl.load(kernel + c * 9 + t) * (p - shift)
    if RELU:
        v = tl.maximum(v, 0.)
    out = y + image_offset(b, c, C, OH, OW, NHWC) + pixel_offset(oh, ow, C, OW, NHWC)
    tl.store(out, v.to(y.dtype.element_ty), mask=ok)


@triton.jit(do_not_specialize=['C', 'H', 'W', 'OH', 'OW', 'n', 'per', 'STRIDE', 'DIL'])
def grad_sums(x, g, y, state, part, C, H, W, OH, OW, n, per, STRIDE, DIL,
              RELU: tl.constexpr, NHWC: tl.constexpr, ROWS: tl.constexpr,
              COLS: tl.constexpr):
    """``part[split, c]``: sums of ``g' (p_t - mean_t)`` (9) and of ``g'``."""
    c, valid = channel_index(C, NHWC, COLS)
    split = tl.program_id(0)
    shift = tl.load(state + c)
    center = ()
    acc = ()
    for t in tl.static_range(9):
        center = center + (shift + tl.load(state + REST * C + c * 9 + t),)
    for _ in tl.static_range(10):
        acc = acc + (tl.zeros((ROWS, COLS), tl.float32),)
    for tile in range(split * per, (split + 1) * per):
        b, oh, ow, ok = locate(tile, n, OH, OW, NHWC, ROWS, COLS)
        ok = ok & valid
        out = image_offset(b, c, C, OH, OW, NHWC) + pixel_offset(oh, ow, C, OW, NHWC)
        d = near_grad(g, y, out, oh, ow, 0, 0, ok, C, OH, OW, RELU, NHWC)
        h, w = oh * STRIDE, ow * STRIDE
        at = x + image_offset(b, c, C, H, W, NHWC) + pixel_offset(h, w, C, W, NHWC)
        new = ()
        for t in tl.static_range(9):
            p = load_near(at, h, w, (t // 3 - 1) * DIL, (t % 3 - 1) * DIL, ok, C, H, W, NHWC)
            new = new + (acc[t] + d * (p - center[t]),)
        acc = new + (acc[9] + d,)
    sums = part + split * C * 10
    for i in tl.static_range(10):
        store_sums(sums + i, acc[i], c, valid, 10, NHWC)


@triton.jit(do_not_specialize=['C', 'n', 'splits', 'DENSE', 'K', 'SCALE', 'SKIP'])
def fold_backward(part, flat, state, grads, coef, C, n, splits, DENSE, K, SCALE, SKIP,
                  BRANCHES: tl.constexpr):
    """One program per channel: gradients of the parameters, and coefficients for the input's.

    With DENSE, :func:`store_stencil` fills ``coef``. Otherwise it gets the quadratic part
    (9, 9, C) and the linear part (9, C).
    """
    c = tl.program_id(0)
    NORMS = K + SCALE + SKIP
    t = tl.arange(0, 16)
    branch = tl.arange(0, BRANCHES)
    first = tl.zeros((16,), tl.float64)
    for s in range(splits):
        first += tl.load(part + (s * C + c) * 10 + t, mask=t < 10, other=0.).to(tl.float64)
    total = tl.sum(tl.where(t == 9, first, 0.), 0).to(tl.float32)
    g = tl.where(t < 9, first, 0.).to(tl.float32)
    w = branch_weights(flat, c, C, K, SCALE, SKIP, BRANCHES)
    norm = branch < NORMS
    scale = tl.load(state + (SCALES + branch) * C + c, mask=norm, other=0.)
    inv = tl.load(state + (SCALES + NORMS + branch) * C + c, mask=norm, other=0.)
    both = norm[:, None] & (t[None, :] < 9)
    row = (SCALES + 2 * NORMS) * C + (branch[:, None] * C + c) * 9
    products = tl.load(state + row + t[None, :], mask=both, other=0.)
    d_gamma = tl.sum(w * g[None, :], 1) * inv
    d_var = d_gamma * scale * inv * -0.5
    d_weight = scale[:, None] * g[None, :] + 2. * d_var[:, None] * products
    own = (branch[:, None] < K) & (t[None, :] < 9)
    tl.store(grads + (branch[:, None] * C + c) * 9 + t[None, :], d_weight, mask=own)
    center = (SCALE > 0) & (branch[:, None] == K) & (t[None, :] == 4)
    tl.store(grads + 9 * K * C + c + branch[:, None] * 0 + t[None, :] * 0, d_weight, mask=center)
    affine = grads + C * (9 * K + SCALE)
    tl.store(affine + branch * C + c, d_gamma, mask=norm)
    tl.store(affine + (NORMS + branch) * C + c, total + d_gamma * 0., mask=norm)
    count = n.to(tl.float32)
    quadratic = tl.sum((w * (d_var * (2. / count))[:, None])[:, :, None] * w[:, None, :], 0)
    linear = tl.sum(w * (scale * (-total / count))[:, None], 0)
    mean = tl.load(state + REST * C + c * 9 + t, mask=t < 9, other=0.).to(tl.float64)
    mean = tl.where(t < 9, mean + tl.load(state + c).to(tl.float64), 0.)
    linear = linear.to(tl.float64) - tl.sum(quadratic.to(tl.float64) * mean[None, :], 1)
    linear = linear.to(tl.float32)
    if DENSE:
        store_stencil(coef + c, quadratic, linear, t, C)
    else:
        at = coef + (t[:, None] * 9 + t[None, :]) * C + c
        tl.store(at, quadratic, mask=(t[:, None] < 9) & (t[None, :] < 9))
        tl.store(coef + (81 + t) * C + c, linear, mask=t < 9)


@triton.jit
def store_stencil(coef, quadratic, linear, t, C):
    """Write the 58 sums of the quadratic and linear parts that :func:`input_grad_dense` reads.

    Away from the border, an input at i gets ``sum_l M_l x_(i+l)``, where M_l is the sum of the
    quadratic part over taps t, u with u - t = l (25 values). At a border, the outputs beyond it
    are missing; their taps inside the image all lie in one row or column (5 values per border).
    At a corner, one of them would be subtracted twice (1 value). The linear part is summed in the
    same way: all taps, borders, corners.
    """
    th = t[:, None] // 3 - 1
    tw = t[:, None] % 3 - 1
    uh = t[None, :] // 3 - 1
    uw = t[None, :] % 3 - 1
    exists = (t[:, None] < 9) & (t[None, :] < 9)
    for at in tl.static_range(25):
        hit = exists & (uh - th == at // 5 - 2) & (uw - tw == at % 5 - 2)
        tl.store(coef + at * C, tl.sum(tl.sum(tl.where(hit, quadratic, 0.), 1), 0))
    h = t // 3 - 1
    w = t % 3 - 1
    tl.store(coef + 49 * C, tl.sum(tl.where(t < 9, linear, 0.), 0))
    for border in tl.static_range(4):  # top, bottom, left, right: taps that reach it are missing
        side = 1 - 2 * (border % 2)
        for at in tl.static_range(5):
            if border < 2:
                hit = exists & (th == side) & (uh == side) & (uw - tw == at - 2)
            else:
                hit = exists & (tw == side) & (uw == side) & (uh - th == at - 2)
            tl.store(coef + (25 + border * 5 + at) * C,
                     tl.sum(tl.sum(tl.where(hit, quadratic, 0.), 1), 0))
        missing = (t < 9) & (h == side if border < 2 else w == side)
        tl.store(coef + (50 + border) * C, tl.sum(tl.where(missing, linear, 0.), 0))
    for corner in tl.static_range(4):  # top left, top right, bottom left, bottom right
        tap = 8 - 6 * (corner // 2) - 2 * (corner % 2)
        hit = (t[:, None] == tap) & (t[None, :] == tap)
        tl.store(coef + (45 + corner) * C, tl.sum(tl.sum(tl.where(hit, quadratic, 0.), 1), 0))
        tl.store(coef + (54 + corner) * C, tl.sum(tl.where(t == tap, linear, 0.), 0))


@triton.jit(do_not_specialize=['C', 'H', 'W', 'n', 'DIL'])
def input_grad_dense(x, g, y, kernel, coef, dx, C, H, W, n, DIL, RELU: tl.constexpr,
                     NHWC: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """:func:`input_grad` for stride 1, by the stencil of :func:`store_stencil`."""
    c, valid = channel_index(C, NHWC, COLS)
    b, h, w, ok = locate(tl.program_id(0), n, H, W, NHWC, ROWS, COLS)
    ok = ok & valid
    offset = image_offset(b, c, C, H, W, NHWC) + pixel_offset(h, w, C, W, NHWC)
    coef += c
    v = tl.zeros((ROWS, COLS), tl.float32) + tl.load(coef + 49 * C)
    row = ()
    column = ()
    for at in tl.static_range(25):
        p = load_near(x + offset, h, w, (at // 5 - 2) * DIL, (at % 5 - 2) * DIL, ok, C, H, W, NHWC)
        v += tl.load(coef + at * C) * p
        if at // 5 == 2:
            row = row + (p,)
        if at % 5 == 2:
            column = column + (p,)
    for t in tl.static_range(9):
        d = near_grad(g, y, offset, h, w, (1 - t // 3) * DIL, (1 - t % 3) * DIL, ok, C, H, W, RELU,
                      NHWC)
        v += tl.load(kernel + c * 9 + t) * d
    borders = (h < DIL, h >= H - DIL, w < DIL, w >= W - DIL)
    for border in tl.static_range(4):
        behind = tl.zeros((ROWS, COLS), tl.float32) + tl.load(coef + (50 + border) * C)
        for at in tl.static_range(5):
            p = row[at] if border < 2 else column[at]
            behind += tl.load(coef + (25 + border * 5 + at) * C) * p
        v -= tl.where(borders[border], behind, 0.)
    for corner in tl.static_range(4):
        twice = tl.load(coef + (45 + corner) * C) * row[2] + tl.load(coef + (54 + corner) * C)
        v += tl.where(borders[corner // 2] & borders[2 + corner % 2], twice, 0.)
    tl.store(dx + offset, v.to(dx.dtype.element_ty), mask=ok)


@triton.jit(do_not_specialize=['C', 'H', 'W', 'OH', 'OW', 'n'])
def input_grad_halved(x, g, y, kernel, coef, dx, C, H, W, OH, OW, n, RELU: tl.constexpr,
                      NHWC: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """:func:`input_grad` for stride 2 without dilation: 2 x 2 inputs at once.

    A tap reads only one of the four. Tap 0 reads even rows; odd rows are read by tap 1 of the
    output above and by tap -1 of the output below. The same holds for columns.
    """
    c, valid = channel_index(C, NHWC, COLS)
    b, oh, ow, ok = locate(tl.program_id(0), n, OH, OW, NHWC, ROWS, COLS)
    ok = ok & valid
    h, w = oh * 2, ow * 2
    offset = image_offset(b, c, C, H, W, NHWC) + pixel_offset(h, w, C, W, NHWC)
    out = image_offset(b, c, C, OH, OW, NHWC) + pixel_offset(oh, ow, C, OW, NHWC)
    near = ()
    for at in tl.static_range(25):
        near = near + (load_near(x + offset, h, w, at // 5 - 1, at % 5 - 1, ok, C, H, W, NHWC),)
    grad = ()
    for at in tl.static_range(4):
        grad = grad + (near_grad(g, y, out, oh, ow, at // 2, at % 2, ok, C, OH, OW, RELU, NHWC),)
    for half in tl.static_range(4):
        total = tl.zeros((ROWS, COLS), tl.float32)
        for t in tl.static_range(9):
            if (t // 3 != 1) == (half // 2 == 1) and (t % 3 != 1) == (half % 2 == 1):
                v = tl.load(coef + (81 + t) * C + c) + (
                    tl.load(kernel + c * 9 + t) * grad[(t // 3 == 0) * 2 + (t % 3 == 0)])
                for u in tl.static_range(9):
                    v += (tl.load(coef + (t * 9 + u) * C + c)
                          * near[(u // 3 + 2 * (t // 3 == 0)) * 5 + u % 3 + 2 * (t % 3 == 0)])
                exists = inside(oh + (t // 3 == 0), ow + (t % 3 == 0), OH, OW)
                total += tl.where(exists, v, 0.)
        exists = ok & inside(h + half // 2, w + half % 2, H, W)
        tl.store(dx + offset + pixel_offset(half // 2, half % 2, C, W, NHWC),
                 total.to(dx.dtype.element_ty), mask=exists)


@triton.jit(do_not_specialize=['C', 'H', 'W', 'OH', 'OW', 'n', 'STRIDE', 'DIL'])
def input_grad(x, g, y, kernel, coef, dx, C, H, W, OH, OW, n, STRIDE, DIL,
               RELU: tl.constexpr, NHWC: tl.constexpr, ROWS: tl.constexpr,
               COLS: tl.constexpr):
    """``dx_i = sum kernel_t g'_o + (quad p_o + linear)_t`` over outputs o whose tap t reads i."""
    c, valid = channel_index(C, NHWC, COLS)
    b, h, w, ok = locate(tl.program_id(0), n, H, W, NHWC, ROWS, COLS)
    ok = ok & valid
    offset = image_offset(b, c, C, H, W, NHWC) + pixel_offset(h, w, C, W, NHWC)
    out = image_offset(b, c, C, OH, OW, NHWC)
    near = ()
    for at in tl.static_range(25):
        near = near + (load_near(x + offset, h, w, (at // 5 - 2) * DIL, (at % 5 - 2) * DIL, ok, C,
                                 H, W, NHWC),)
    total = tl.zeros((ROWS, COLS), tl.float32)
    for t in tl.static_range(9):
        up = h - (t // 3 - 1) * DIL
        left = w - (t % 3 - 1) * DIL
        oh = up // STRIDE
        ow = left // STRIDE
        reads = (ok & (up >= 0) & (left >= 0) & (up % STRIDE == 0) & (left % STRIDE == 0)
                 & (oh < OH) & (ow < OW))
        d = near_grad(g, y, out + pixel_offset(oh, ow, C, OW, NHWC), oh, ow, 0, 0, reads, C, OH,
                      OW, RELU, NHWC)
        v = tl.load(coef + (81 + t) * C + c) + tl.load(kernel + c * 9 + t) * d
        for u in tl.static_range(9):
            v += (tl.load(coef + (t * 9 + u) * C + c)
                  * near[(u // 3 - t // 3 + 2) * 5 + u % 3 - t % 3 + 2])
        total += tl.where(reads, v, 0.)
    tl.store(dx + offset, total.to(dx.dtype.element_ty), mask=ok)
