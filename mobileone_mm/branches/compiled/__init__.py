"""Passes over feature maps, compiled by numba, for training on CPUs.

torch has an operator for each step of a pass, and each of them reads and writes whole maps. Here
one loop does several steps. Everything also exists in torch, for other devices, half precision,
channels_last, and without numba (``pip install 'mobileone_mm[fast]'``).
"""

from .available import has_cores_to_itself, run, usable

__all__ = ['has_cores_to_itself', 'run', 'usable']
