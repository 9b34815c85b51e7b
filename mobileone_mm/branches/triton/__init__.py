"""The training passes of folded blocks as Triton kernels, for GPUs.

Triton comes with torch's CUDA builds for Linux. Without it, only :func:`available` may be used
here.
"""

from functools import cache

__all__ = ['available']


@cache
def available() -> bool:
    """Whether Triton is installed in a release that is known to work with these kernels."""
    try:
        import triton
    except ImportError:
        return False
    return tuple(map(int, triton.__version__.split('.')[:2])) >= (3, 3)
