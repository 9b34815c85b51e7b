"""A training engine that computes what the branches compute at a fraction of the cost.

The mathematics is in :mod:`mobileone_mm.reparam.moments` and
:mod:`mobileone_mm.reparam.moment_fold`.
"""

from .engine import BRANCH_ENGINES, analytic_forward, check_branch_engine

__all__ = ['BRANCH_ENGINES', 'analytic_forward', 'check_branch_engine']
