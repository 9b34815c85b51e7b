"""A set of one's own in COCO's format: a config is written, trained, tested; bad data are told."""

import json
import re
import runpy
import sys

import pytest
from mmengine.config import Config
from paths import ROOT

from mobileone_mm.commands.train_test import test as run_test
from mobileone_mm.commands.train_test import train as run_train
from mobileone_mm.datasets.custom_coco import read_split, write_custom_config
from mobileone_mm.datasets.drawn.shapes import make_shapes
from mobileone_mm.utils.libraries import PreflightError

pytest.importorskip('mmdet')

TINY = ['--cfg-options', 'train_dataloader.dataset.pipeline.4.scale=(64,64)',
        'val_dataloader.dataset.pipeline.1.scale=(64,64)',
        'test_dataloader.dataset.pipeline.1.scale=(64,64)', 'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False', 'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False', 'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False', 'model.backbone.num_conv_branches=1']


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """The user's data: folders and files named as COCO's never are."""
    folder = tmp_path_factory.mktemp('own')
    make_shapes(folder / 'shapes', 'coco', num_train=4, num_val=2)
    coco = folder / 'shapes/coco'
    for split in ('train', 'val'):
        (coco / f'{split}2017').rename(folder / f'{split} pictures')
        (coco / f'annotations/instances_{split}2017.json').rename(folder / f'{split}.json')
    return folder


def run_tool(*arguments):
    """tools/custom_coco.py's exit status."""
    old, sys.argv = sys.argv, ['custom_coco.py', *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(ROOT / 'tools/custom_coco.py'), run_name='__main__')
    finally:
        sys.argv = old
    return caught.value.code


def test_three_commands(drawn, tmp_path, capsys):
    config, work = tmp_path / 'configs/own.py', tmp_path / 'work'
    status = run_tool(
        '--train', drawn / 'train.json', '--val', drawn / 'val.json', '--images',
        drawn / 'train pictures', '--val-images', drawn / 'val pictures', '--out', config,
        '--base', 'ssdlite_mobileone_s0_coco', '--epochs', 1, '--batch-size', 2, '--from-scratch')
    printed = capsys.readouterr().out
    assert status == 0 and '4 images; boxes: circle ' in printed
    run_train([str(config), '--work-dir', str(work), *TINY])
    log = next(work.rglob('*.log')).read_text()
    # What users look for. mmengine adds `memory:` on GPUs only: CPUs have no counter to read.
    line = next(line for line in log.splitlines() if 'Epoch(train)' in line)
    for field in ('lr: ', 'eta: ', 'time: ', 'data_time: ', 'loss: '):
        assert f' {field}' in line
    rates = [float(rate) for rate in re.findall(r' base_lr: (\S+)', log)]
    assert rates[0] < max(rates) / 2 <= 1e-3  # the warm-up ends, even with two iterations
    metrics = run_test([str(work / 'epoch_1_deploy.py'), str(work / 'epoch_1_deploy.pth'),
                        '--work-dir', str(work)])
    assert 0 <= metrics['coco/bbox_mAP'] <= 1


def test_config_follows_the_data(drawn, tmp_path):
    train = read_split(drawn / 'train.json', drawn / 'train pictures')
    val = read_split(drawn / 'val.json', drawn / 'val pictures')
    content = json.loads((drawn / 'train.json').read_text())
    names = {c['id']: c['name'] for c in content['categories']}
    expected = dict.fromkeys(names.values(), 0)
    for annotation in content['annotations']:
        expected[names[annotation['category_id']]] += not annotation['iscrowd']
    assert train.boxes == expected
    write_custom_config(train, val, tmp_path / 'own.py', epochs=30, batch_size=2)
    cfg = Config.fromfile(tmp_path / 'own.py')
    base = Config.fromfile(ROOT / 'configs/detection/ssdlite_mobileone_s1_coco.py')
    assert cfg.model.bbox_head.num_classes == 6
    assert cfg.model.backbone == base.model.backbone  # with the weights for ImageNet
    assert cfg.train_dataloader.dataset.metainfo.classes == tuple(expected)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(.05 * 2 / 192, rel=1e-2)
    assert cfg.param_scheduler[0].end == 6  # a tenth of 30 epochs of 2 iterations
    assert cfg.train_cfg.max_epochs == 30


def _break(change):
    def apply(content):
        change(content)
        return content
    return apply


@pytest.mark.parametrize('change, expected', [
    (_break(lambda c: c['annotations'][0].update(bbox=[1, 1, 0, 4])), 'has bbox [1, 1, 0, 4]'),
    (_break(lambda c: c['annotations'][0].update(category_id=99)), 'has category_id 99'),
    (_break(lambda c: c['annotations'][0].update(image_id=99)), 'has image_id 99'),
    (_break(lambda c: c['annotations'][0].pop('area')), 'lacks area'),
    (_break(lambda c: c['categories'][1].update(name='circle')), 'comes twice: circle'),
    (_break(lambda c: c['categories'].reverse()), 'another order'),
    (_break(lambda c: c['annotations'].clear()), 'holds no boxes'),
    (_break(lambda c: c.pop('images')), 'needs the lists'),
    (_break(lambda c: c['images'][0].update(file_name='gone.jpg')), 'for example gone.jpg'),
])
def test_bad_annotations_are_told_and_nothing_is_written(drawn, tmp_path, capsys, change, expected):
    bad = tmp_path / 'bad.json'
    bad.write_text(json.dumps(change(json.loads((drawn / 'val.json').read_text()))))
    status = run_tool('--train', drawn / 'train.json', '--val', bad, '--images',
                      drawn / 'train pictures', '--val-images', drawn / 'val pictures', '--out',
                      tmp_path / 'own.py')
    error = capsys.readouterr().err
    assert status == 1 and expected in error and str(bad) in error
    assert not (tmp_path / 'own.py').exists()


@pytest.mark.parametrize('options, expected', [
    (dict(out='own.txt'), 'ends with .py'), (dict(base='s1'), 'expected one of ssdlite'),
    (dict(epochs=0), '--epochs 0'), (dict(batch_size=-1), '--batch-size -1'),
])
def test_bad_options(drawn, tmp_path, options, expected):
    split = read_split(drawn / 'val.json', drawn / 'val pictures')
    options['out'] = tmp_path / options.get('out', 'own.py')
    with pytest.raises(PreflightError, match=expected):
        write_custom_config(split, split, **options)


def test_same_images_in_both_files_are_noted(drawn, tmp_path):
    split = read_split(drawn / 'val.json', drawn / 'val pictures')
    assert any('metrics will be too good' in line
               for line in write_custom_config(split, split, tmp_path / 'own.py'))
