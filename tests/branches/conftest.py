"""Both implementations of the analytic engine on CPUs."""

import pytest

from mobileone_mm.branches import choose as engine
from mobileone_mm.branches.plain import folded_conv


@pytest.fixture(params=['compiled', 'torch'])
def passes(request, monkeypatch):
    """numba's passes, if installed, and torch's."""
    if request.param == 'compiled':
        pytest.importorskip('numba')
    else:
        monkeypatch.setattr(engine, 'usable', lambda x: False)
        monkeypatch.setattr(folded_conv, 'usable', lambda x: False)
    return request.param
