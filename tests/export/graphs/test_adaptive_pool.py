"""Pooling with matrices equals torch's adaptive pooling, also in a graph with open sizes."""

import pytest
import torch
from torch import nn

from mobileone_mm.export.graphs.adaptive_pool import MatrixPool, pool_by_matrices

SIZES = [(12, 12), (7, 10), (5, 3), (1, 2)]


@pytest.mark.parametrize('cells', [2, 3, 6, (3, 2)])
@pytest.mark.parametrize('size', SIZES)
def test_it_is_adaptive_pooling(cells, size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    pool = nn.AdaptiveAvgPool2d(cells)
    model = nn.Sequential(pool)
    pool_by_matrices(model)
    assert isinstance(model[0], MatrixPool)
    torch.testing.assert_close(model(x), pool(x), rtol=1e-6, atol=1e-6)


def test_what_runtimes_know_stays():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d((None, 2)))
    pool_by_matrices(model)
    assert all(type(child) is nn.AdaptiveAvgPool2d for child in model)


def test_in_a_graph_of_open_size(tmp_path):
    for name in ('onnx', 'onnxruntime'):
        pytest.importorskip(name, reason=f'needs {name} (make test-deploy)')
    from mobileone_mm.export.graphs.trace import export_onnx
    from mobileone_mm.export.running.runtimes import load_runtime
    model = nn.Sequential(nn.AdaptiveAvgPool2d(3))
    pool, x = model[0], torch.randn(1, 3, 9, 11)
    pool_by_matrices(model)
    export_onnx(model, (x, ), tmp_path / 'pool.onnx', ['x'], ['y'],
                dict(x={2: 'height', 3: 'width'}))
    runtime = load_runtime('onnxruntime', tmp_path / 'pool.onnx')
    for size in ((9, 11), *SIZES):
        x = torch.randn(1, 3, *size)
        torch.testing.assert_close(torch.from_numpy(runtime(x.numpy())[0]), pool(x),
                                   rtol=1e-5, atol=1e-6)
