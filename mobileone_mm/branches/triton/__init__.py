"""The training passes of folded blocks as Triton kernels, for GPUs.

Triton comes with torch's CUDA builds for Linux. Where it is missing nothing here but
:func:`available` may be used.
"""

from functools import cache

__all__ = ['available']


@cache
def available() -> bool:
    """Whether Triton is installed, in a release that these kernels are known to run with."""
    try:
        import triton
    except ImportError:
        return False
    return tuple(map(int, triton.__version__.split('.')[:2])) >= (3, 3)
