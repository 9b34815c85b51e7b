"""Let torch's threads sleep while they wait for each other; import this before torch.

OpenMP's default is to spin for a while, which takes cores from whatever else runs: the compiled
kernels of this package, and other programs, beside which training slows down several times.
"""

import os
import sys

if 'torch' not in sys.modules and 'OMP_WAIT_POLICY' not in os.environ:
    os.environ['OMP_WAIT_POLICY'] = 'passive'
    # GNU's OpenMP: so many turns first, some microseconds, since the next work often comes at once.
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')
