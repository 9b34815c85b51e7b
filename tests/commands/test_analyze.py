"""tools/analyze.py: mmdet's and mmseg's own tools finish, even with mmcv-lite."""

import importlib.util
import json
import pickle
from collections.abc import Sequence
from itertools import islice
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

for _name in ('mmdet', 'mmseg'):
    pytest.importorskip(_name, reason=f'needs {_name}')

from mmengine.config import Config  # noqa: E402
from mmengine.dataset import RepeatDataset  # noqa: E402
from paths import ROOT  # noqa: E402
from tiny_detector import write_config  # noqa: E402
from toy_classifier import ToyDataset  # noqa: E402

from mobileone_mm.commands.analyze import TOOLS, list_tools, run_analysis  # noqa: E402
from mobileone_mm.datasets.drawn.shapes import make_shapes  # noqa: E402
from mobileone_mm.engine import SeededDataset, make_resumable  # noqa: E402
from mobileone_mm.folding.deployed_files import deployed_config  # noqa: E402
from mobileone_mm.utils.libraries import PreflightError  # noqa: E402


@pytest.fixture(autouse=True)
def _arguments_and_classes_restored(monkeypatch):
    from mmseg.visualization import SegLocalVisualizer
    monkeypatch.setattr('sys.argv', ['analyze.py'])
    monkeypatch.setattr(SegLocalVisualizer, 'add_datasample', SegLocalVisualizer.add_datasample)
    # mmdet takes 48 processes, and forks of a process with threads, like this one, can hang.
    monkeypatch.setattr('multiprocessing.Pool', lambda processes: ThreadPool(2))
    monkeypatch.setattr(RepeatDataset, '__iter__', None, raising=False)


@pytest.fixture
def detector(tmp_path):
    """A deployed config, and predictions equal to the annotations."""
    cfg = Config.fromfile(write_config(tmp_path, num_train=2))
    make_resumable(cfg)
    config, found, listed = tmp_path / 'tiny_deploy.py', [], []
    deployed_config(cfg).dump(config)
    truth = json.loads(Path(cfg.test_evaluator.ann_file).read_text())
    labels = {category['id']: cfg.classes.index(category['name'])
              for category in truth['categories']}
    for image in truth['images']:
        own = [a for a in truth['annotations'] if a['image_id'] == image['id']]
        boxes = torch.tensor([a['bbox'] for a in own]).float()
        boxes[:, 2:] += boxes[:, :2]
        found.append(dict(img_id=image['id'], ori_shape=(image['height'], image['width']),
                          pred_instances=dict(
                              bboxes=boxes, scores=torch.ones(len(own)),
                              labels=torch.tensor([labels[a['category_id']] for a in own]))))
        listed += [dict(image_id=image['id'], category_id=a['category_id'], bbox=a['bbox'],
                        score=1.) for a in own]
    (tmp_path / 'found.pkl').write_bytes(pickle.dumps(found))
    (tmp_path / 'found.bbox.json').write_text(json.dumps(listed))
    return SimpleNamespace(config=str(config), found=str(tmp_path / 'found.pkl'),
                           listed=str(tmp_path / 'found.bbox.json'), folder=tmp_path,
                           truth=cfg.test_evaluator.ann_file)


def pictures(folder, pattern='*.*'):
    """The names of the pictures; checks that none is blank."""
    paths = sorted(folder.glob(pattern))
    assert paths and all(cv2.imread(str(path)).std() > 1 for path in paths)
    return [path.name for path in paths]


def test_browse_detection(detector):
    run_analysis('mmdet', 'browse_dataset', [
        detector.config, '--not-show', '--output-dir', str(detector.folder / 'out')])
    assert len(pictures(detector.folder / 'out')) == 2


def test_confusion_matrix(detector):
    run_analysis('mmdet', 'confusion_matrix', [
        detector.config, detector.found, str(detector.folder / 'out')])
    assert pictures(detector.folder / 'out') == ['confusion_matrix.png']


def test_best_and_worst(detector):
    run_analysis('mmdet', 'analyze_results', [
        detector.config, detector.found, str(detector.folder / 'out'), '--topk', '1'])
    assert len(pictures(detector.folder / 'out', '*/*.jpg')) == 2


def test_metrics_of_right_predictions(detector, capsys):
    run_analysis('mmdet', 'eval_metric', [detector.config, detector.found])
    assert "'coco/bbox_mAP': 1.0" in capsys.readouterr().out


def test_error_analysis(detector):
    run_analysis('mmdet', 'coco_error_analysis', [
        detector.listed, str(detector.folder / 'out'), '--ann', detector.truth])
    assert 'bbox-allclass-allarea.png' in pictures(detector.folder / 'out/bbox')


def test_flops(detector, capsys):
    run_analysis('mmdet', 'get_flops', [detector.config])
    assert 'Flops: ' in capsys.readouterr().out


@pytest.mark.parametrize('times', [None, 2])
def test_browse_segmentation(tmp_path, times):
    """Also with a config that repeats its data, like those from tools/custom_seg.py."""
    data = make_shapes(tmp_path, 'voc', num_train=2, num_val=1)
    cfg = Config.fromfile(ROOT / 'configs/segmentation/deeplabv3_mobileone_s0_shapes.py')
    dataset = cfg.dataset_train
    dataset.data_root = str(data)
    cfg.train_dataloader.dataset = dataset if times is None else dict(
        type='RepeatDataset', times=times, dataset=dataset)
    cfg.dump(tmp_path / 'config.py')
    run_analysis('mmseg', 'browse_dataset', [
        str(tmp_path / 'config.py'), '--not-show', '--output-dir', str(tmp_path / 'out')])
    assert len(pictures(tmp_path / 'out')) == 1  # of two images one is for the larger set


def test_the_data_of_a_work_directorys_config_end():
    """mmdet's and mmseg's own scripts loop over them; mmengine's RepeatDataset never ends."""
    counts = [len([0 for _ in islice(Sequence.__iter__(kind(ToyDataset(), 1)), 30)])
              for kind in (SeededDataset, RepeatDataset)]
    assert counts == [12, 30]


@pytest.mark.parametrize('library', TOOLS)
def test_learning_curves(tmp_path, library):
    path = tmp_path / 'scalars.json'
    path.write_text('\n'.join(json.dumps(dict(loss=3 / i, epoch=1, step=i)) for i in range(1, 9)))
    arguments = [str(path), '--keys', 'loss', '--out', str(tmp_path / 'loss.png')]
    if library == 'mmdet':
        arguments.insert(0, 'plot_curve')
    if importlib.util.find_spec('seaborn') is None:
        with pytest.raises(PreflightError, match='needs seaborn, .* pip install seaborn'):
            run_analysis(library, 'analyze_logs', arguments)
        pytest.skip('seaborn is not installed: what was tested is that the message says so')
    run_analysis(library, 'analyze_logs', arguments)
    assert pictures(tmp_path, '*.png') == ['loss.png']


@pytest.mark.parametrize('arguments, message', [
    ((), 'error: no library: expected one of mmdet, mmseg'),
    (('mmpose', 'x'), 'error: mmpose: expected one of mmdet, mmseg'),
    (('mmdet', ), 'error: mmdet without a tool: expected one of analyze_logs, '),
    (('mmdet', 'browse'), 'error: mmdet browse: expected one of analyze_logs, '),
    (('mmseg', 'confusion_matrix'), 'use tools/test.py CONFIG CHECKPOINT --report DIR'),
    (('mmdet', 'get_flops', 'no.py'), 'error: no.py: no such file or folder'),
])
def test_errors_are_one_line(run_tool, capsys, arguments, message):
    assert run_tool('analyze', *arguments) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1 and message in lines[0]


def test_the_list_and_the_page_name_every_tool(run_tool, capsys):
    assert run_tool('analyze', '--list') == 0
    printed = capsys.readouterr().out
    assert printed.strip() == list_tools()
    page = (ROOT / 'docs/training_options.md').read_text()
    for library, tools in TOOLS.items():
        for name in tools:
            assert f'{library} {name} ' in printed
            assert f'tools/analyze.py {library} {name} ' in page


def test_a_tools_own_help(run_tool, capsys):
    assert run_tool('analyze', 'mmdet', 'browse_dataset', '--help') == 0
    assert '--show-interval' in capsys.readouterr().out


def test_why_mmsegs_confusion_matrix_is_left_out():
    """If this fails, mmseg counts correctly, and the tool can be listed."""
    package = Path(importlib.util.find_spec('mmseg').origin).parent
    spec = importlib.util.spec_from_file_location(
        'confusion_matrix', package / '.mim/tools/analysis_tools/confusion_matrix.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    class Labels:
        METAINFO, ignore_index, reduce_zero_label = dict(classes=range(17)), 255, False

        def __len__(self):
            return 1

        def __getitem__(self, i):
            return dict(data_samples=SimpleNamespace(
                gt_sem_seg=SimpleNamespace(data=torch.tensor([[[3, 16]]]))))

    counts = tool.calculate_confusion_matrix(Labels(), [np.array([[3, 16]], np.uint8)])
    assert counts[3, 3] == 1 and counts[16, 16] == 0
