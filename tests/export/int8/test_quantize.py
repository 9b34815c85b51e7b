"""What tools/quantize.py refuses before any long work."""

from types import SimpleNamespace

import export_models
import pytest
import small_exports

for _name in ('mmdet', 'onnx', 'onnxruntime'):
    pytest.importorskip(_name, reason=f'needs {_name} (make test-deploy)')

from mobileone_mm.export.backends import onnx_format  # noqa: E402
from mobileone_mm.export.errors import ExportError, MissingPackageError  # noqa: E402
from mobileone_mm.export.int8 import quantize as module  # noqa: E402
from mobileone_mm.export.int8 import quantizers  # noqa: E402
from mobileone_mm.export.pipeline import write_file  # noqa: E402


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with a config and a checkpoint."""
    folder = tmp_path_factory.mktemp('trained')
    model, cfg = small_exports.detector()
    cfg.dump(folder / 'x.py')
    export_models.save(model, folder / 'x.pth')
    return folder


@pytest.fixture
def quantize(trained, tmp_path, monkeypatch):
    """Quantize for images of some sizes; nothing is exported."""
    def run(backend, sizes=((64, 96), ), **options):
        images = [export_models.images(1, *size).float().numpy() for size in sizes]
        dataset = SimpleNamespace(metainfo=dict(classes=['a', 'b', 'c']))

        class Images(list):
            def __init__(self, cfg, count):
                super().__init__(images)
                self.dataset = dataset

        monkeypatch.setattr(module, 'CalibrationImages', Images)
        return module.quantize_model(trained / 'x.py', trained / 'x.pth', backend, tmp_path,
                                     **options)

    monkeypatch.setattr(module, 'write_file', lambda *_, **__: pytest.fail('it exported'))
    monkeypatch.setattr(module, 'require', lambda *_: None)  # not installed everywhere
    monkeypatch.setattr(quantizers, 'find_spec', lambda name: name)
    return run


@pytest.mark.parametrize('backend', quantizers.QUANTIZERS)
def test_an_unknown_layer(quantize, backend, tmp_path):
    with pytest.raises(ExportError, match='--keep backbone.stem: expected first, last, none or the '
                                          r'name of a convolution, such as (backbone|neck)\.'):
        quantize(backend, keep=['first', 'backbone.stem'])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('backend', ['litert', 'executorch'])
def test_images_of_several_sizes(quantize, backend):
    with pytest.raises(ExportError, match=f'{backend} needs a fixed size, .* 2 sizes: add a Resize '
                                          'with keep_ratio=False .*, or choose one of onnx, open'):
        quantize(backend, sizes=[(64, 96), (96, 64)])


def test_images_of_several_sizes_leave_the_size_open():
    images = [export_models.images(1, *size).numpy() for size in ((32, 32), (32, 64))]
    assert module.axes_to_open('onnx', ['batch'], images) == ['batch', 'size']
    assert module.axes_to_open('litert', [], images[:1]) == []


def test_a_backend_or_a_quantizer_that_is_missing(quantize, monkeypatch):
    with pytest.raises(ExportError, match="int8 does not support 'ncnn'; choose one of onnx, "):
        quantize('ncnn')
    monkeypatch.setattr(quantizers, 'find_spec', lambda name: None)
    with pytest.raises(MissingPackageError, match=r"needs nncf: pip install 'mobileone_mm.int8"):
        quantize('openvino')


@pytest.mark.parametrize('backend', ['onnx', 'openvino'])
def test_what_a_converter_cannot_express_is_one_line(quantize, backend, tmp_path, monkeypatch):
    def broken(job, pick):
        raise RuntimeError('no such operator\nand 200 lines of a graph')

    monkeypatch.setattr(module, 'write_file', write_file)
    monkeypatch.setattr(onnx_format, 'export', broken)
    with pytest.raises(ExportError, match=f'^{backend} cannot express the head SSDLiteHead or a '
                                          'layer before it: no such operator$'):
        quantize(backend)
    assert not list(tmp_path.iterdir())
