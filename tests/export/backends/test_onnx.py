"""Write files with export_onnx and run them in the runtimes."""

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip('onnx', reason='needs the extra onnx (make test-deploy)')
pytest.importorskip('onnxruntime', reason='needs the extra onnx (make test-deploy)')

from mobileone_mm.export import ExportError  # noqa: E402
from mobileone_mm.export.graphs.trace import export_onnx  # noqa: E402
from mobileone_mm.export.running.runtimes import load_runtime  # noqa: E402


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.drop = nn.Conv2d(3, 4, 3), nn.Dropout()

    def forward(self, image):
        maps = self.drop(self.conv(image))
        return maps, maps.mean((2, 3))


@pytest.mark.parametrize('backend', ['onnxruntime', 'openvino'])
@pytest.mark.parametrize('dynamic', [False, True])
def test_runtimes_compute_what_the_module_computes(tmp_path, backend, dynamic):
    pytest.importorskip(backend, reason=f'needs the extra {backend} (make test-deploy)')
    net = Net().train()
    axes = dict(image={0: 'n', 2: 'h', 3: 'w'}, maps={0: 'n', 2: 'h', 3: 'w'}, means={0: 'n'})
    path = export_onnx(net, (torch.zeros(1, 3, 8, 8), ), tmp_path / 'net.onnx', ['image'],
                       ['maps', 'means'], axes if dynamic else None)
    assert net.training
    run = load_runtime(backend, path, threads=1)
    assert run.input_names == ['image'] and run.output_names == ['maps', 'means']
    image = torch.randn(2, 3, 10, 9) if dynamic else torch.randn(1, 3, 8, 8)
    expected = net.eval()(image)
    for actual, tensor in zip(run(image.numpy()), expected):
        np.testing.assert_allclose(actual, tensor.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_failed_export_leaves_what_was_there(tmp_path):
    class Broken(nn.Module):
        def forward(self, image):
            raise RuntimeError('broken')

    (tmp_path / 'net.onnx').write_text('before')
    with pytest.raises(RuntimeError, match='broken'):
        export_onnx(Broken(), (torch.zeros(1), ), tmp_path / 'net.onnx', ['x'], ['y'])
    assert [path.name for path in tmp_path.iterdir()] == ['net.onnx']
    assert (tmp_path / 'net.onnx').read_text() == 'before'


def test_unreadable_files_are_reported(tmp_path):
    (tmp_path / 'net.onnx').write_text('no model')
    with pytest.raises(ExportError, match='cannot load .*net.onnx'):
        load_runtime('onnxruntime', tmp_path / 'net.onnx')
    with pytest.raises(ExportError, match='no exported model at'):
        load_runtime('onnxruntime', tmp_path / 'other.onnx')
    with pytest.raises(ExportError, match='choose one of onnxruntime'):
        load_runtime('tflite', tmp_path / 'net.onnx')
