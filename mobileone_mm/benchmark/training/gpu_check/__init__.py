"""Check that training works on this GPU, and measure the branch engines there."""

from .check import PARTS, Options, run_check

__all__ = ['PARTS', 'Options', 'run_check']
