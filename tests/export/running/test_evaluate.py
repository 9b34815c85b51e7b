"""Run tools/test.py on exported files: metrics equal to the PyTorch model's, 8 bits, options.

Random models find nothing in real data, and equal zeros would prove nothing. The annotations are
therefore part of the PyTorch model's own predictions.
"""

import copy
import json
import re

import export_models
import mmcv
import numpy as np
import pytest
import torch

for _name in ('mmdet', 'mmseg', 'onnx', 'onnxruntime'):
    pytest.importorskip(_name, reason=f'needs {_name} (make test-deploy)')

from mobileone_mm.commands.train_test import test as evaluate  # noqa: E402
from mobileone_mm.export import ExportError  # noqa: E402
from mobileone_mm.export.pipeline import export_model  # noqa: E402
from mobileone_mm.export.running.exported_model import ExportedModel  # noqa: E402
from mobileone_mm.export.samples import Samples  # noqa: E402
from mobileone_mm.export.trained import load_trained  # noqa: E402
from mobileone_mm.utils.libraries import PreflightError  # noqa: E402

# All recipes have this hook. It copies the tested model, but a loaded file cannot be copied.
EMA = dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=.2, update_buffers=True)


def _predict(config, checkpoint, pictures):
    cfg, model = load_trained(config, checkpoint)
    samples = Samples(cfg)
    with torch.no_grad():
        return [model.test_step(samples(path))[0] for path in pictures]


@pytest.fixture(scope='module')
def detection(tmp_path_factory):
    """A checkpoint, and a config whose annotations are every other predicted box."""
    folder = tmp_path_factory.mktemp('detection')
    cfg = export_models.config(export_models.DETECTION, size=(96, 64))
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.update(data_root=f'{folder}/', ann_file='annotations.json',
                                       data_prefix=dict(img='pictures/'))
    cfg.test_evaluator.ann_file = f'{folder}/annotations.json'
    cfg.val_dataloader = cfg.test_dataloader  # for calibration
    cfg.custom_hooks = [EMA]
    checkpoint = export_models.save(export_models.model(cfg), folder / 'model.pth')
    config = folder / 'config.py'
    cfg.dump(config)
    pictures = export_models.write_pictures(folder / 'pictures')
    annotations = []
    for index, sample in enumerate(_predict(config, checkpoint, pictures)):
        found = sample.pred_instances[::2]
        for (x1, y1, x2, y2), label in zip(found.bboxes.tolist(), found.labels.tolist()):
            width, height = (x2 - x1) * .93, y2 - y1
            annotations.append(dict(id=len(annotations) + 1, image_id=index, iscrowd=0,
                                    bbox=[x1, y1, width, height], area=width * height,
                                    category_id=label + 1))
    (folder / 'annotations.json').write_text(json.dumps(dict(
        images=[dict(id=i, file_name=path.name, width=96, height=64)
                for i, path in enumerate(pictures)],
        annotations=annotations,
        categories=[dict(id=i + 1, name=name)
                    for i, name in enumerate(('RBC', 'WBC', 'Platelets'))])))
    return folder


@pytest.fixture(scope='module')
def segmentation(tmp_path_factory):
    """A config whose label maps are the predictions with an inverted stripe."""
    folder = tmp_path_factory.mktemp('segmentation')
    cfg = export_models.config(export_models.SEGMENTATION)
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.update(data_root=str(folder), img_suffix='.png')
    cfg.val_dataloader = cfg.test_dataloader
    cfg.custom_hooks = [EMA]
    checkpoint = export_models.save(export_models.model(cfg), folder / 'model.pth')
    cfg.dump(folder / 'config.py')
    pictures = export_models.write_pictures(folder / 'img_dir' / 'val')
    samples = _predict(folder / 'config.py', checkpoint, pictures)
    for path, sample in zip(pictures, samples):
        labels = sample.pred_sem_seg.data[0].numpy().astype(np.uint8)
        labels[:20] = 1 - labels[:20]
        mmcv.imwrite(labels, str(folder / 'ann_dir' / 'val' / f'{path.stem}.png'))
    return folder


def _metrics(folder, checkpoint, work_dir, *options):
    return evaluate([str(folder / 'config.py'), str(checkpoint), '--work-dir', str(work_dir),
                     *options, '--cfg-options', 'log_level=ERROR',
                     f'experiment_name={work_dir.name}', f'visualizer.name={work_dir.name}'])


def _export(folder, backend, out, **options):
    pictures = 'img_dir/val' if (folder / 'img_dir').exists() else 'pictures'
    return export_model(folder / 'config.py', folder / 'model.pth', backend,
                        folder / pictures / '0.png', out, **options).path


@pytest.mark.parametrize('task, backend', [
    ('detection', 'onnx'), ('detection', 'onnxruntime'), ('segmentation', 'openvino'),
    ('segmentation', 'onnxruntime')])
def test_metrics_equal_pytorchs_to_three_decimals(request, tmp_path, task, backend):
    package = dict(onnxruntime='mmdeploy').get(backend, backend)
    pytest.importorskip(package, reason=f'needs {package} (make test-deploy)')
    folder = request.getfixturevalue(task)
    metric, scale = dict(detection=('coco/bbox_mAP', 1), segmentation=('mIoU', 100))[task]
    truth = _metrics(folder, folder / 'model.pth', tmp_path / 'torch')
    name = f'{task}_{backend}'  # mmengine keeps one visualizer per name in a process
    found = _metrics(folder, _export(folder, backend, tmp_path), tmp_path / name,
                     '--show-dir', str(tmp_path / 'drawn'))
    assert len(list(tmp_path.glob('drawn/**/*.png'))) == 3
    assert .1 < truth[metric] / scale < .95
    assert round(found[metric] / scale, 3) == pytest.approx(round(truth[metric] / scale, 3))
    assert found.keys() == truth.keys()


def test_other_hooks_may_copy_it_too(detection, tmp_path):
    path = _export(detection, 'onnx', tmp_path)
    exported = ExportedModel.load(path, None)
    assert copy.deepcopy(exported).runtime is exported.runtime


def test_what_does_not_fit_is_refused(detection, segmentation, tmp_path):
    path = _export(detection, 'onnx', tmp_path / 'out')
    with pytest.raises(ExportError, match='is for detection, the config for segmentation'):
        _metrics(segmentation, path, tmp_path / 'task')
    with pytest.raises(PreflightError, match='--tta works with checkpoints'):
        _metrics(detection, path, tmp_path / 'tta', '--tta')
    interface = path.with_suffix('.json')
    interface.write_text(interface.read_text().replace('RBC', 'red'))
    with pytest.raises(ExportError, match="has the classes .'red'"):
        _metrics(detection, path, tmp_path / 'classes')


@pytest.mark.parametrize('task, backend', [('detection', 'onnx'), ('segmentation', 'openvino')])
def test_8_bits_by_the_tool(request, run_tool, tmp_path, capsys, task, backend):
    pytest.importorskip(dict(onnx='onnx', openvino='nncf')[backend], reason='needs nncf')
    folder = request.getfixturevalue(task)
    arguments = [folder / 'config.py', folder / 'model.pth', '--backend', backend, '--out',
                 tmp_path, '--images', 2]
    assert run_tool('quantize', *arguments, '--evaluate') == 0
    printed = capsys.readouterr().out
    path = tmp_path / f'config_{backend}_int8.{dict(onnx="onnx", openvino="xml")[backend]}'
    assert json.loads(path.with_suffix('.json').read_text())['backend'] == backend
    assert {found.suffix for found in tmp_path.glob('config_*')} == {
        '.json', '.py', path.suffix, *(['.bin'] if backend == 'openvino' else [])}
    size, float_size = re.search(r': ([\d,]+) bytes \(float32: ([\d,]+)\)', printed).groups()
    assert int(size.replace(',', '')) < .45 * int(float_size.replace(',', ''))
    metric, scale = dict(detection=('coco/bbox_mAP', 1), segmentation=('mIoU', 100))[task]
    before, after = map(float, re.search(
        f'^{metric}: float32 (.*), int8 (.*)$', printed, re.M).groups())
    assert .1 < before / scale < .95 and abs(before - after) / scale < .15
    assert run_tool('quantize', *arguments[:-1], 0) == 1
    assert 'must be at least 1, got 0' in capsys.readouterr().err


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_augmentation_and_pictures(request, tmp_path, task, monkeypatch):
    folder = request.getfixturevalue(task)
    monkeypatch.chdir(tmp_path)  # pictures of detection go to the work directory
    plain = _metrics(folder, folder / 'model.pth', tmp_path / f'{task}_drawn',
                     '--show-dir', 'drawn')
    drawn = sorted(path.name for path in tmp_path.glob('**/drawn/**/*.png'))
    assert len(drawn) == 3
    augmented = _metrics(folder, folder / 'model.pth', tmp_path / f'{task}_tta', '--tta')
    assert augmented.keys() == plain.keys()
    metric, scale = dict(detection=('coco/bbox_mAP', 1), segmentation=('mIoU', 100))[task]
    # The annotations are the plain predictions, so adding flipped images lowers the score.
    assert .05 < augmented[metric] / scale < plain[metric] / scale
