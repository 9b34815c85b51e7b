"""The analytic branch engine: what the branches compute in training, at a fraction of the cost.

The mathematics is in :mod:`mobileone_mm.branches.maths.moments` and
:mod:`mobileone_mm.branches.maths.moment_fold`.
"""

from .choose import BRANCH_ENGINES, analytic_forward, check_branch_engine

__all__ = ['BRANCH_ENGINES', 'analytic_forward', 'check_branch_engine']
