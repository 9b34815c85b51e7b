"""Show why mu0, mu1 and mu2 (paper, Table 13) are missing: their sizes do not determine them.

Counts networks of MobileOne's form whose parameters and multiply-adds round to the table's. Widths
are multiples of 1/8 that never shrink, as in S0 to S4; stages have at most S0's depths.

    python tools/evidence/search_micro_variants.py
"""

import itertools

import numpy as np

BASE = (64, 128, 256, 512)
DEPTHS = ((1, 2), (2, 3, 4, 5, 6, 7, 8), (2, 3, 4, 5, 6, 7, 8, 9, 10), (1, ))
PUBLISHED = dict(mu0=('0.57', 68), mu1=('0.98', 139), mu2=('1.3', 214))


def cost(widths, depths, stem):
    """Parameters and multiply-adds of the folded classifier at 224 px."""
    channels = [(base * width).astype(int) for base, width in zip(BASE, widths)]
    parameters, operations = 28 * stem, 27 * stem * 112**2
    previous, size = stem, 112
    for out, depth in zip(channels, depths):
        size //= 2
        parameters = parameters + 10 * previous + (previous + 1) * out
        operations = operations + (9 + out) * previous * size**2
        parameters = parameters + (depth - 1) * (10 * out + (out + 1) * out)
        operations = operations + (depth - 1) * (9 + out) * out * size**2
        previous = out
    return parameters + 1000 * previous + 1000, operations + 1000 * previous


def main():
    s0 = [np.array([a]) for a in (.75, 1., 1., 2.)]
    parameters, operations = cost(s0, (2, 8, 10, 1), np.array([48]))
    print(f'check, S0: {parameters[0]:,} parameters (exact: 2,078,504), '
          f'{operations[0] / 1e6:.0f} M multiply-adds (paper: 275)')
    steps = np.arange(1, 17) / 8
    grid = [axis.ravel() for axis in np.meshgrid(*[steps] * 4, indexing='ij')]
    rising = (grid[0] <= grid[1]) & (grid[1] <= grid[2]) & (grid[2] <= grid[3])
    grid = [axis[rising] for axis in grid]
    found = {name: [] for name in PUBLISHED}
    for depths in itertools.product(*DEPTHS):
        stem = np.minimum(64, (64 * grid[0]).astype(int))
        parameters, operations = cost(grid, depths, stem)
        for name, (millions, flops) in PUBLISHED.items():
            digits = len(millions.split('.')[1])
            fits = (np.round(parameters / 1e6, digits) == float(millions)) & (
                np.round(operations / 1e6) == flops)
            found[name] += [(depths, tuple(float(axis[i]) for axis in grid))
                            for i in np.flatnonzero(fits)]
    for name, nets in found.items():
        print(f'{name}: {len(nets)} nets of {PUBLISHED[name][0]} M parameters and '
              f'{PUBLISHED[name][1]} M multiply-adds, such as (depths, widths):')
        for net in nets[:3]:
            print(f'  {net}')


if __name__ == '__main__':
    main()
