"""Does training work on this GPU, and what do the branch engines cost there?"""

from .check import PARTS, Options, run_check

__all__ = ['PARTS', 'Options', 'run_check']
