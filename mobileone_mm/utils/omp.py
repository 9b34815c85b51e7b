"""Make torch's threads sleep while they wait for each other; import this before torch.

By default OpenMP spins for a while, which takes cores from this package's compiled kernels and from
other programs. Beside these, training slows down several times.
"""

import os
import sys

if 'torch' not in sys.modules and 'OMP_WAIT_POLICY' not in os.environ:
    os.environ['OMP_WAIT_POLICY'] = 'passive'
    # GNU's OpenMP spins this often first, some microseconds, since more work often comes at once.
    os.environ.setdefault('GOMP_SPINCOUNT', '1000')
