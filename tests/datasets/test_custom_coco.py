"""Your own data in COCO's format: a config is written, trained and tested; bad data are refused."""

import builtins
import json
import re

import pytest
import torch
from coco_samples import sample, write_sample
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from paths import ROOT
from torch import nn

from mobileone_mm.commands.train_test import test as run_test
from mobileone_mm.commands.train_test import train as run_train
from mobileone_mm.datasets.coco_files import read_coco
from mobileone_mm.datasets.custom_coco import read_split, write_custom_config
from mobileone_mm.datasets.custom_coco.levels import plan_levels
from mobileone_mm.datasets.drawn.shapes import make_shapes
from mobileone_mm.datasets.preflight.network import _anchor_notes, _trace
from mobileone_mm.utils.configs import read_config
from mobileone_mm.utils.libraries import PreflightError

pytest.importorskip('mmdet')


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """The user's data, with folder and file names unlike COCO's."""
    folder = tmp_path_factory.mktemp('own')
    make_shapes(folder / 'shapes', 'coco', num_train=4, num_val=2)
    coco = folder / 'shapes/coco'
    for split in ('train', 'val'):
        (coco / f'{split}2017').rename(folder / f'{split} pictures')
        (coco / f'annotations/instances_{split}2017.json').rename(folder / f'{split}.json')
    return folder


def write(folder, train=None, val=None, num_images=2, **options):
    """The config for changed samples, and the notes."""
    paths = [write_sample(folder, change, f'{name}.json', num_images)
             for name, change in (('train', train), ('val', val))]
    negatives = options.pop('keep_negatives', False)
    split = read_split(paths[0], folder / 'img', keep_negatives=negatives)
    options.setdefault('base', 'ssdlite_mobileone_s0_coco')
    notes = write_custom_config(split, read_split(paths[1], folder / 'img', like=split),
                                folder / 'own.py', **options)
    return Config.fromfile(folder / 'own.py'), '\n'.join(notes)


def test_three_commands(drawn, tmp_path, capsys, run_tool):
    config, work = tmp_path / 'configs/own.py', tmp_path / 'work'
    status = run_tool(
        'custom_coco', '--train', drawn / 'train.json', '--val', drawn / 'val.json', '--images',
        drawn / 'train pictures', '--val-images', drawn / 'val pictures', '--out', config,
        '--base', 'ssdlite_mobileone_s0_coco', '--epochs', 1, '--batch-size', 2, '--from-scratch',
        '--input-size', 64, '--workers', 0)
    printed = capsys.readouterr().out
    assert status == 0 and '4 images; boxes: circle ' in printed
    assert '2 iterations are few when starting' in printed
    run_train([str(config), '--work-dir', str(work),
               '--cfg-options', 'model.backbone.num_conv_branches=1'])
    assert 'note: anchors' not in capsys.readouterr().out
    log = next(work.rglob('*.log')).read_text()
    # What users look for.
    line = next(line for line in log.splitlines() if 'Epoch(train)' in line)
    for field in ('lr: ', 'eta: ', 'time: ', 'data_time: ', 'loss: '):
        assert f' {field}' in line
    rates = [float(rate) for rate in re.findall(r' base_lr: (\S+)', log)]
    assert rates[0] < max(rates) / 2 <= 1e-2  # the warm-up ends, even with two iterations
    metrics = run_test([str(work / 'epoch_1_deploy.py'), str(work / 'epoch_1_deploy.pth'),
                        '--work-dir', str(work)])
    assert 0 <= metrics['coco/bbox_mAP'] <= 1


def test_config_follows_the_data(drawn, tmp_path):
    train = read_split(drawn / 'train.json', drawn / 'train pictures')
    val = read_split(drawn / 'val.json', drawn / 'val pictures', like=train)
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
    assert cfg.train_dataloader.dataset.pipeline == base.train_dataloader.dataset.pipeline
    assert cfg.train_dataloader.dataset.ann_file == str(drawn / 'train.json')  # needs no copy
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(.05 * 2 / 192, rel=1e-2)
    assert cfg.auto_scale_lr.base_batch_size == 2  # for which the rate above is
    assert cfg.param_scheduler[0].end == 6  # a tenth of 30 epochs of 2 iterations
    assert cfg.train_cfg.max_epochs == 30


def test_the_schedule_follows_what_is_trained_on(tmp_path):
    def negatives(content):
        content['annotations'] = content['annotations'][:4]
    cfg, notes = write(tmp_path, train=negatives, num_images=40, batch_size=2, epochs=20)
    assert cfg.param_scheduler[0].end == 2  # of 20 iterations, not of 400
    assert '38 of 40 images (38 without boxes)' in notes and '20 iterations are few' in notes
    cfg, notes = write(tmp_path, train=negatives, num_images=40, batch_size=2, epochs=20,
                       keep_negatives=True)
    assert cfg.param_scheduler[0].end == 40 and 'without boxes are trained on' in notes
    assert cfg.train_dataloader.dataset.filter_cfg.filter_empty_gt is False
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        assert len(dataset) == 40 and len(dataset[39]['data_samples'].gt_instances) == 0


def test_repaired_annotations_go_beside_the_config(tmp_path):
    def no_crowds(content):
        for annotation in content['annotations']:
            del annotation['iscrowd']

    def reverse(content):
        content['categories'] = [dict(id=1, name='disc'), dict(id=2, name='box')]
        for annotation in content['annotations']:
            annotation['category_id'] = 3 - annotation['category_id']
        no_crowds(content)
    cfg, notes = write(tmp_path, train=no_crowds, val=reverse)
    files = [cfg[f'{name}_dataloader'].dataset.ann_file for name in ('train', 'val', 'test')]
    assert files == [str(tmp_path / f'own_{name}.repaired.json')
                     for name in ('train', 'val', 'val')]
    assert cfg.val_evaluator.ann_file == files[1]
    assert all(str(path) in notes for path in (tmp_path / 'train.json', *files))
    assert 'iscrowd' not in (tmp_path / 'train.json').read_text()  # the user's file stays
    assert read_coco(tmp_path / 'own_train.repaired.json').content == sample()
    val = read_coco(tmp_path / 'own_val.repaired.json').content
    assert [c['name'] for c in val['categories']] == ['box', 'disc']


@pytest.mark.parametrize('name', [
    '"""\nimport builtins\nbuiltins.broken_out = True\n"""', '"), broken_out=print("', '\\N', "'",
    '{train}', 'C:\\Users\\u', '{{ fileDirname }}'])
def test_names_never_become_code(tmp_path, name):
    def change(content):
        content['categories'][0]['name'] = name
    folder = tmp_path / 'a \\U "folder" {{ fileDirname }}'
    folder.mkdir()
    cfg, _ = write(folder, change, change)
    assert cfg.classes == (name, 'disc') and not hasattr(builtins, 'broken_out')
    assert cfg.train_dataloader.dataset.data_prefix.img == str(folder / 'img')


@pytest.mark.parametrize('change, expected', [
    (lambda c: c['annotations'][0].update(category_id=99), 'has category_id 99'),
    (lambda c: c['annotations'][0].update(image_id=99), 'has image_id 99'),
    (lambda c: c['categories'][1].update(name='circle'), 'listed twice: circle'),
    (lambda c: c['categories'][1].update(name='Square'), 'square not found'),
    (lambda c: c['annotations'].clear(), 'holds no boxes'),
    (lambda c: c.pop('images'), 'needs the lists'),
    (lambda c: c['images'][0].update(file_name='gone.jpg'), 'for example gone.jpg'),
])
def test_bad_annotations_are_refused_and_nothing_is_written(
        drawn, tmp_path, capsys, run_tool, change, expected):
    content = json.loads((drawn / 'val.json').read_text())
    change(content)
    bad = tmp_path / 'bad.json'
    bad.write_text(json.dumps(content))
    status = run_tool('custom_coco', '--train', drawn / 'train.json', '--val', bad, '--images',
                      drawn / 'train pictures', '--val-images', drawn / 'val pictures', '--out',
                      tmp_path / 'own.py')
    error = capsys.readouterr().err
    assert status == 1 and expected in error and str(bad) in error
    assert list(tmp_path.iterdir()) == [bad]


@pytest.mark.parametrize('options, expected', [
    (dict(out='own.txt'), 'ends with .py'), (dict(base='s1'), 'expected one of ssdlite'),
    (dict(epochs=0), '--epochs 0'), (dict(batch_size=-1), '--batch-size -1'),
    (dict(workers=-1), '--workers -1'), (dict(input_size=100), 'expected a multiple of 32'),
    (dict(checkpoint='gone.pth'), '--checkpoint gone.pth'),
    (dict(checkpoint='a.pth', from_scratch=True), 'exclude each other'),
    (dict(batch_size=1), '--batch-size 1: batch norms on a map of one cell need two'),
])
def test_bad_options(drawn, tmp_path, options, expected):
    split = read_split(drawn / 'val.json', drawn / 'val pictures')
    options['out'] = tmp_path / options.get('out', 'own.py')
    with pytest.raises(PreflightError, match=expected):
        write_custom_config(split, split, **options)
    assert not list(tmp_path.iterdir())


def test_same_images_in_both_files_are_noted(tmp_path):
    assert 'metrics will be too good' in write(tmp_path)[1]


def test_a_last_batch_of_one_is_left_out(tmp_path):
    cfg, notes = write(tmp_path, num_images=5, batch_size=2)
    assert cfg.train_dataloader.drop_last is True and 'would have one image' in notes
    assert '2 iterations' not in notes and cfg.param_scheduler[0].end == 10  # of 50 times 2
    assert write(tmp_path, num_images=4, batch_size=2)[0].train_dataloader.drop_last is False


@pytest.mark.parametrize('scratch', [False, True])
@pytest.mark.parametrize('size', [64, 192, 416])
def test_input_size_moves_pipelines_anchors_and_strides(tmp_path, size, scratch):
    import mobileone_mm.detection  # noqa: F401
    cfg, _ = write(tmp_path, input_size=size, from_scratch=scratch, workers=0)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        scales = [step.scale for step in loader.dataset.pipeline if step.type == 'Resize']
        assert scales == [(size, size)] and loader.persistent_workers is False
    cfg.model.backbone.update(num_conv_branches=1, init_cfg=None)
    with MODELS.switch_scope_and_registry('mmdet') as registry:
        model = registry.build(cfg.model)
    shapes = _trace(model, (size, size))
    assert shapes.maps[0][0] == size // (8 if scratch else 16)
    assert _anchor_notes(model, shapes.maps, (size, size)) == []
    anchors = cfg.model.bbox_head.anchor_generator
    assert len(anchors.min_sizes) == len(shapes.maps)
    assert sorted(anchors.min_sizes) == anchors.min_sizes and anchors.max_sizes[-1] == size
    for other in (size // 2, 2 * size + 32):
        wrong = _trace(model, (other, other))
        assert 'anchors do not fit an input' in _anchor_notes(
            model, wrong.maps, (other, other))[0]


def test_levels_of_the_base_follow_from_the_same_rule():
    base = Config.fromfile(ROOT / 'configs/detection/ssdlite_mobileone_s0_coco.py').model
    levels = plan_levels('s0', 640, from_scratch=False)
    generator = base.bbox_head.anchor_generator
    assert plan_levels('s0', 320, from_scratch=False) is None
    assert levels.channels == base.bbox_head.in_channels
    assert [size // 2 for size in levels.sizes[:-1]] == pytest.approx(generator.min_sizes, abs=1)


def test_where_the_backbone_starts(tmp_path):
    (tmp_path / 'own.pth').write_bytes(b'weights')
    cfg, _ = write(tmp_path, checkpoint=str(tmp_path / 'own.pth'))
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained',
                                               checkpoint=str(tmp_path / 'own.pth'))
    option = {'model.backbone.init_cfg.checkpoint': 'other.pth'}
    assert read_config(tmp_path / 'own.py', option).model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint='other.pth')
    cfg, _ = write(tmp_path, from_scratch=True)
    assert [step.type for step in cfg.model.backbone.init_cfg] == [
        'Kaiming', 'Constant', 'SkipInit']
    assert read_config(tmp_path / 'own.py', option).model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint='other.pth')


def test_the_average_keeps_up_with_a_short_run(tmp_path):
    cfg, _ = write(tmp_path)
    hook = dict(cfg.custom_hooks[0])
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    average = MODELS.build(dict(type=hook['ema_type'], model=net, momentum=hook['momentum'],
                                gamma=hook['gamma']))
    for step in range(1, 401):
        nn.init.constant_(net.weight, step)
        average.update_parameters(net)
        if step in (10, 40, 400):
            lag = step - float(average.module.weight.detach())
            assert 0 <= lag < step / 5
    assert torch.isfinite(average.module.weight).all()


def test_small_boxes_are_noted(tmp_path):
    def shrink(content):
        for annotation in content['annotations']:
            annotation.update(bbox=[5, 5, 1.5, 1.5], area=2.25)
    _, notes = write(tmp_path, train=shrink)
    assert '100% of the boxes are less than half as large as the smallest anchor' in notes
