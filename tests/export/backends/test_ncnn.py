"""Run exported files in ncnn and compare them with their PyTorch models."""

import pytest
import small_exports

for _module in ('mmdet', 'mmseg', 'pnnx', 'ncnn'):
    pytest.importorskip(_module, reason=f'{_module} is not installed (make env-deploy)')

from mobileone_mm.export import ExportError  # noqa: E402
from mobileone_mm.export.backends import ncnn_format  # noqa: E402
from mobileone_mm.export.interface import Interface  # noqa: E402
from mobileone_mm.export.parity import FLOAT16  # noqa: E402
from mobileone_mm.export.running.runtimes import load_runtime  # noqa: E402

exported = small_exports.exported('ncnn')


def test_ncnn_answers_as_the_model(exported):
    model, _, job, path = exported
    result = small_exports.parity(model, path)
    result.check()
    assert result.objects > 20
    types = ncnn_format.layer_types(path)
    assert 'ConvolutionDepthWise' in types and not any('BatchNorm' in name for name in types)
    assert Interface.read(path).normalized


def test_half_stores_half_the_bytes_and_stays_close(exported, tmp_path):
    model, cfg, _, path = exported
    half = ncnn_format.export(small_exports.job('ncnn', model, cfg, tmp_path, half=True))
    ratio = half.with_suffix('.bin').stat().st_size / path.with_suffix('.bin').stat().st_size
    assert .45 < ratio < .6
    small_exports.parity(model, half, FLOAT16).check()


def test_parity_catches_a_lost_bias(exported, tmp_path):
    small_exports.check_a_lost_bias_is_found('ncnn', *exported[:2], tmp_path)


def test_a_failing_pnnx_leaves_nothing(exported, tmp_path, monkeypatch):
    monkeypatch.setattr('pnnx.EXEC_PATH', '/bin/false')
    model, cfg, _, _ = exported
    with pytest.raises(ExportError, match='pnnx failed'):
        ncnn_format.export(small_exports.job('ncnn', model, cfg, tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('layer', ['aten::sort', 'F.grid_sample', 'BatchNorm'])
def test_layers_that_should_not_be_there_are_named(tmp_path, layer):
    param = tmp_path / 'x.param'
    param.write_text(f'7767517\n2 2\nInput a 0 1 in0\n{layer} b 1 1 in0 out0\n')
    with pytest.raises(ExportError, match=layer):
        ncnn_format.check_layers(param)


def test_a_missing_bin_is_an_error(exported, tmp_path):
    param = tmp_path / 'x.param'
    param.write_text(exported[3].read_text())
    with pytest.raises(ExportError, match='x.bin'):
        load_runtime('ncnn', param)


def test_batches_are_refused(exported, tmp_path):
    small_exports.check_batches_are_refused('ncnn', *exported[:2], tmp_path)
