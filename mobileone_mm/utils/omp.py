"""Have torch's threads sleep while they wait for each other; to be imported before torch.

OpenMP's default is to spin for a while, which takes cores from whatever else runs: the compiled
kernels of this package, and other programs, beside which training slows down several times.
"""

import os
import sys

if 'torch' not in sys.modules:
    os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
