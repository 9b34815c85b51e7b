"""Run tools/deploy.py on small random models, from a checkpoint to a compared file."""

import re

import export_models
import folding_faults
import numpy as np
import pytest
import torch

for _name in ('mmdet', 'mmseg', 'onnx', 'onnxruntime'):
    pytest.importorskip(_name, reason=f'needs {_name} (make test-deploy)')

from mobileone_mm.export import ExportError, ParityError  # noqa: E402
from mobileone_mm.export.backends import onnx_format  # noqa: E402
from mobileone_mm.export.interface import Interface  # noqa: E402
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
    if backend == 'openvino':  # computes in bfloat16 by default if the CPU has it
        import openvino
        options = dict(INFERENCE_PRECISION_HINT=Interface.read(result.path).precision)
        core = openvino.Core()
        compiled = core.compile_model(str(result.path), 'CPU', options)
        assert compiled.get_property('INFERENCE_PRECISION_HINT') == openvino.Type.f32
        info = core.read_model(result.path).get_rt_info(['runtime_options', *options])
        assert info.astype(str) == 'f32'


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
    with pytest.raises(CheckpointError, match='is already folded'):
        export(config='detection.py', checkpoint='folded.pth')


@pytest.fixture
def damage(monkeypatch):
    """The exporter flips half of the signs in the largest weight."""
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


def test_the_tool_reports_a_failed_parity(trained, run_tool, tmp_path, request,
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


def edit_weights(trained, name, change):
    content = torch.load(trained / f'{name}.pth')
    change(content['state_dict'])
    torch.save(content, trained / 'edited.pth')


def overflow(weights):
    """The second-to-last map overflows float16, and the biases favor one class everywhere."""
    weights['decode_head.bottleneck.bn.weight'] *= 1e6
    weights['decode_head.conv_seg.weight'] *= 1e-6
    weights['decode_head.conv_seg.weight'][1] = weights['decode_head.conv_seg.weight'][0]
    weights['decode_head.conv_seg.bias'][:] = torch.tensor([5., -5.])


@pytest.mark.parametrize('backend, message', [
    ('onnx', 'are not finite'), ('onnxruntime', 'differ')])  # mmdeploy's weights are clamped
def test_logits_beyond_float16_fail_though_the_labels_agree(export, trained, backend, message):
    if backend == 'onnxruntime':
        pytest.importorskip('mmdeploy', reason='needs mmdeploy (make test-deploy)')
    edit_weights(trained, 'segmentation', overflow)
    assert export('segmentation', backend, checkpoint='edited.pth').parity.objects
    with pytest.raises(ParityError, match=f'Worst tensor: maps before argmax .* {message}'):
        export('segmentation', backend, checkpoint='edited.pth', half=True)


def test_without_boxes_the_maps_are_compared_and_it_is_said(export, request):
    high = {'model.test_cfg.score_thr': .9999}
    told = str(export(cfg_options=high))
    assert '0 boxes' in told and 'NO BOXES WERE COMPARED' in told and 'IoU' not in told
    assert 'maps before argmax or suppression differ by' in told
    request.getfixturevalue('damage')
    with pytest.raises(ParityError, match='Worst tensor: maps before argmax'):
        export(cfg_options=high)


def test_a_hardly_trained_detector_is_no_failure(export, trained):
    """All anchors have nearly the same scores, so rounding decides which boxes suppress others."""
    def untrain(weights):
        for key, value in weights.items():
            if 'bbox_head.cls_convs' in key and key.endswith('1.weight'):
                value *= 1e-6

    edit_weights(trained, 'detection', untrain)
    export(checkpoint='edited.pth', verify=trained / 'pictures')


@pytest.mark.parametrize('keep_ratio', [True, False])
def test_where_the_pipeline_resizes_labels_are_compared_at_the_inputs_size(export, trained,
                                                                          keep_ratio):
    cfg = export_models.config(export_models.SEGMENTATION)
    cfg.test_dataloader.dataset.pipeline.insert(
        1, dict(type='Resize', scale=(140, 97), keep_ratio=keep_ratio))
    cfg.dump(trained / 'resizing.py')
    result = export(config='resizing.py', checkpoint='segmentation.pth',
                    verify=trained / 'pictures')
    height, width = (93, 140) if keep_ratio else (97, 140)
    assert result.parity.objects == 4 * height * width
    assert result.parity.worst['label map'][0] > .9999


@pytest.mark.parametrize('backend', ['onnx', 'onnxruntime', 'tensorrt'])
def test_sliding_windows_are_refused(export, tmp_path, backend):
    if backend != 'onnx':
        pytest.importorskip('mmdeploy', reason='needs mmdeploy (make test-deploy)')
    with pytest.raises(ExportError, match="test_cfg.mode is 'slide'.*mode=whole and cut windows"):
        export('segmentation', backend, cfg_options={
            'model.test_cfg.mode': 'slide', 'model.test_cfg.crop_size': (64, 64),
            'model.test_cfg.stride': (42, 42)})
    assert names(tmp_path) == []


def test_weights_that_are_not_numbers_are_refused(export, trained):
    edit_weights(trained, 'detection', lambda weights: weights['neck.extra_layers.0.0.conv.weight']
                 .fill_(float('nan')))
    with pytest.raises(CheckpointError, match='the weights are NaN, neck'):
        export(checkpoint='edited.pth')


def test_a_fault_in_folding_fails_the_parity(export, monkeypatch):
    folding_faults.halve_the_kernel(monkeypatch)
    with pytest.raises(ParityError):
        export()


def test_what_a_converter_cannot_express_is_one_line(export, monkeypatch):
    def broken(job):
        raise RuntimeError('no such operator\nand 200 lines of a graph')

    monkeypatch.setattr(onnx_format, 'export', broken)
    with pytest.raises(ExportError, match='^onnx cannot express the head SSDLiteHead or a layer '
                                          'before it: no such operator$'):
        export()


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
    with pytest.raises(ExportError, match='note.txt cannot be read as an image'):
        export(image='note.txt')
    with pytest.raises(ExportError, match='there is no image .*9.png'):
        export(image='9.png')
    with pytest.raises(ExportError, match='no pictures .* in '):
        export(verify=tmp_path)


def test_a_form_of_the_outputs_is_compared(export, trained):
    pytest.importorskip('executorch', reason='needs executorch (make test-deploy)')
    form = dict(backend='executorch', form='react-native')
    result = export(verify=trained / 'pictures', **form)
    assert result.parity.objects > 20 and result.parity.worst['maps'][0] < 1e-4
    with pytest.raises(ExportError, match='--form react-native is for detectors; .* segmentation'):
        export('segmentation', **form)


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


def test_the_tool_reports_errors_in_one_line(trained, run_tool, tmp_path, capsys):
    assert run_tool('deploy', trained / 'detection.py', trained / 'none.pth', '--backend', 'ncnn',
                    '--dynamic', 'size', '--image', 'x', '--out', tmp_path) == 1
    assert capsys.readouterr().err.startswith('error: ncnn needs a fixed')
