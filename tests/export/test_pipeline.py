"""tools/deploy.py's work, from checkpoint to a compared file, on small random models."""

import re

import export_models
import numpy as np
import pytest
import torch

for _name in ('mmdet', 'mmseg', 'onnx', 'onnxruntime'):
    pytest.importorskip(_name, reason=f'needs {_name} (make test-deploy)')

from mobileone_mm.export import ExportError, ParityError  # noqa: E402
from mobileone_mm.export.backends import onnx_format  # noqa: E402
from mobileone_mm.export.pipeline import export_model  # noqa: E402
from mobileone_mm.folding.deployed_files import write_deployed  # noqa: E402
from mobileone_mm.folding.models import build_model  # noqa: E402
from mobileone_mm.utils.checkpoint_files import CheckpointError  # noqa: E402


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    return export_models.write_trained(tmp_path_factory.mktemp('trained'))


@pytest.fixture
def export(trained, tmp_path):
    def run(name='detection', backend='onnx', config=None, checkpoint=None, image='0.png',
            **options):
        if backend == 'openvino':
            pytest.importorskip('openvino', reason='needs openvino (make test-deploy)')
        return export_model(trained / (config or f'{name}.py'),
                            trained / (checkpoint or f'{name}.pth'), backend,
                            trained / 'pictures' / image, tmp_path / 'out', **options)
    return run


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / 'out').glob('*'))


@pytest.mark.parametrize('backend, suffixes', [('onnx', ['json', 'onnx', 'py']),
                                               ('openvino', ['bin', 'json', 'py', 'xml'])])
@pytest.mark.parametrize('task, options', [
    ('detection', {}), ('detection', dict(dynamic=['batch'])),
    ('segmentation', dict(dynamic=['size', 'batch']))])
def test_exports_answer_like_the_model(export, trained, tmp_path, task, backend, suffixes, options):
    result = export(task, backend, verify=trained / 'pictures', **options)
    assert names(tmp_path) == [f'{task}_{backend}.{suffix}' for suffix in suffixes]
    assert result.parity.images == 4 and result.parity.objects > 20
    assert set(result.parity.worst) == (
        {'boxes', 'scores', 'labels', 'maps'} if task == 'detection' else {'label map', 'maps'})
    assert result.parity.worst['maps'][0] < 1e-4
    assert result.bytes > 1e6 and 0 < result.latency_ms < 1e4
    assert 'Parity: 4 images' in str(result)


def test_a_batch_of_two(export):
    assert export('segmentation', batch_size=2).parity.worst['label map'][0] > .999


def test_half_is_smaller_and_close(export):
    full, half = export('segmentation'), export('segmentation', half=True)
    assert half.bytes < .6 * full.bytes
    assert .9 < half.parity.worst['label map'][0] < 1.


def test_folded_files_export_too(export, trained):
    cfg = export_models.config(export_models.DETECTION, size=(96, 64))
    model = build_model(cfg)
    write_deployed(model, cfg, trained / 'detection.pth', trained / 'folded.pth')
    assert export(config='folded.py', checkpoint='folded.pth').parity.problems() == []
    with pytest.raises(CheckpointError, match='is folded already'):
        export(config='detection.py', checkpoint='folded.pth')


@pytest.fixture
def damage(monkeypatch):
    """The exporter turns half of the signs in the largest weight."""
    intact = onnx_format.export

    def damaged(job):
        import onnx
        path = intact(job)
        model = onnx.load(str(path))
        weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        values = np.frombuffer(weight.raw_data, np.float32).copy()
        values[::2] *= -1
        weight.raw_data = values.tobytes()
        onnx.save(model, str(path))
        return path

    monkeypatch.setattr(onnx_format, 'export', damaged)


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_a_damaged_weight_fails_the_parity(export, damage, tmp_path, task):
    output = 'label map' if task == 'segmentation' else '(boxes|scores|labels)'
    with pytest.raises(ParityError, match=f"Worst tensor: output '{output}'"):
        export(task)
    assert names(tmp_path) == [f'{task}_onnx.failed']


def test_the_tools_status_and_words_tell_a_failed_parity(trained, run_tool, tmp_path, request,
                                                         capsys):
    command = ('deploy', trained / 'detection.py', trained / 'detection.pth', '--backend', 'onnx',
               '--image', trained / 'pictures' / '0.png', '--out', tmp_path / 'out')
    assert run_tool(*command) == 0
    assert 'Parity: 1 images' in capsys.readouterr().out
    request.getfixturevalue('damage')
    assert run_tool(*command) == 1
    out, err = capsys.readouterr()
    assert 'Parity' not in out and re.search(r"Worst tensor: output '(boxes|scores|labels)'", err)
    assert 'detection_onnx.failed' in names(tmp_path)


def test_an_export_that_fails_leaves_nothing(export, tmp_path, monkeypatch):
    def broken(job):
        job.out.write_text('half of it')
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx_format, 'export', broken)
    with pytest.raises(KeyboardInterrupt):
        export()
    assert names(tmp_path) == []


def test_a_checkpoint_of_another_model_is_refused(export, tmp_path):
    with pytest.raises(CheckpointError, match='is not of the model that the config builds'):
        export('detection', checkpoint='segmentation.pth')
    assert not (tmp_path / 'out').exists()


def test_pictures_are_checked(export, trained, tmp_path):
    (trained / 'pictures' / 'note.txt').write_text('no picture')
    with pytest.raises(ExportError, match='note.txt is no image that can be read'):
        export(image='note.txt')
    with pytest.raises(ExportError, match='there is no image .*9.png'):
        export(image='9.png')
    with pytest.raises(ExportError, match='no pictures .* in '):
        export(verify=tmp_path)


def test_a_size_the_file_was_not_exported_for_is_refused(export, trained):
    from mobileone_mm.export.running.exported_model import ExportedModel
    path = export('segmentation').path
    cfg = export_models.config(export_models.SEGMENTATION)
    exported = ExportedModel.load(path, build_model(cfg).data_preprocessor)
    with pytest.raises(ExportError, match='export again with --dynamic size'):
        exported.run(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ExportError, match='--dynamic batch'):
        exported.run(torch.zeros(2, 3, 64, 96))
    path.with_suffix('.json').unlink()
    with pytest.raises(ExportError, match='segmentation_onnx.json is missing'):
        ExportedModel.load(path, None)


def test_the_tool_tells_errors_in_one_line(trained, run_tool, tmp_path, capsys):
    assert run_tool('deploy', trained / 'detection.py', trained / 'none.pth', '--backend', 'ncnn',
                    '--dynamic', 'size', '--image', 'x', '--out', tmp_path) == 1
    assert capsys.readouterr().err.startswith('error: ncnn is exported for a fixed')
