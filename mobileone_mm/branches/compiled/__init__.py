"""Passes over feature maps, compiled by numba, for training on CPUs.

torch has an operator for each step of such a pass, and each of them reads and writes whole maps;
here one loop does several. Everything has a twin in torch, which is used on other devices, in half
precision, in channels_last, and where numba is not installed (``pip install
'mobileone_mm[fast]'``).
"""

from .available import has_cores_to_itself, run, usable

__all__ = ['has_cores_to_itself', 'run', 'usable']
