"""The ImageNet recipe in mmpretrain follows the paper, and starts the other tasks."""

import pickle

import pytest
import torch
from mmengine.config import Config
from paths import ROOT
from torchvision_stub import import_mmpretrain

import mobileone_mm
from mobileone_mm.backbones.archs import ARCHS
from mobileone_mm.commands.train_test import train
from mobileone_mm.datasets.drawn.shapes import make_shapes
from mobileone_mm.datasets.preflight import check_data
from mobileone_mm.folding.models import build_model
from mobileone_mm.utils.checkpoint_files import read_checkpoint
from mobileone_mm.utils.libraries import PreflightError, check_library

mmpretrain = import_mmpretrain()
CONFIGS = ROOT / 'configs'
FOLDER = CONFIGS / 'classification'
PARAMETERS = dict(s0=5_293_272, s1=4_825_192, s2=7_884_648, s3=10_170_600, s4=14_951_248)


def config(name):
    return Config.fromfile(FOLDER / f'mobileone_{name}.py')


@pytest.mark.parametrize('arch', ARCHS)
def test_recipe(arch):
    cfg = config(f'{arch}_in1k')
    model = build_model(cfg)
    assert type(model.backbone) is mobileone_mm.MobileOne
    assert model.backbone.arch == ARCHS[arch]
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[arch]  # of the released files
    # The paper, sections 3.4 and 4.1.
    assert cfg.train_cfg.max_epochs == 300 and cfg.model.head.loss.label_smooth_val == 0.1
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('SGD', 0.1, 1e-4)
    assert cfg.default_hooks.weight_decay.min_ratio == 0.1
    assert [h.momentum for h in cfg.custom_hooks if h.type == 'EMAHook'] == [5e-4]
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 256
    progressive = cfg.default_hooks.get('progressive')
    assert ('AutoAugment' in str(cfg.train_dataloader)) == bool(progressive) == (
        arch in ('s2', 's3', 's4'))
    if progressive:
        assert [tuple(s.values()) for s in progressive.stages] == [
            (1, 160, 0.3), (37, 192, 0.7), (112, 224, 1.0)]


def test_randaugment_grows_with_the_stages():
    from mobileone_mm.engine.hooks import ProgressiveLearningHook
    cfg = config('s2_randaugment_in1k')
    hook = dict(cfg.default_hooks.progressive)
    assert hook.pop('type') == 'ProgressiveLearningHook'
    hook = ProgressiveLearningHook(**hook)
    levels = [hook.pipeline_of(cfg.train_dataloader.dataset.pipeline, stage)[0][3].magnitude_level
              for stage in hook.stages]
    assert levels == pytest.approx([2.1, 4.9, 7.])  # mmpretrain's


SMALL = ['train_dataloader.batch_size=4', 'train_dataloader.num_workers=1',
         'val_dataloader.batch_size=4', 'val_dataloader.num_workers=0',
         'val_dataloader.persistent_workers=False', 'model.backbone.num_conv_branches=1',
         'train_cfg.max_epochs=2', 'train_cfg.val_interval=2', 'log_level=ERROR']


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data'), 'imagenet', num_train=12, num_val=4)


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
    """A checkpoint of two epochs, in two stages, by the command that a user runs."""
    work_dir = tmp_path_factory.mktemp('run')
    file = work_dir / 'config.py'
    file.write_text(f"""
_base_ = {str(FOLDER / 'mobileone_s0_shapes.py')!r}
custom_hooks = [dict(type='EMAHook', momentum=5e-2, update_buffers=True, priority=49)]
default_hooks = dict(progressive=dict(stages=[
    dict(epoch=1, resolution=32, strength=0.), dict(epoch=2, resolution=40, strength=1.)]))
""")
    train([str(file), '--work-dir', str(work_dir), '--cfg-options', f'data_root={data}', *SMALL])
    return work_dir / 'epoch_2.pth'


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_a_checkpoint_starts_the_other_tasks(trained, task):
    scope, name = dict(detection=('mmdet', 'ssdlite_mobileone_s0_coco'),
                       segmentation=('mmseg', 'deeplabv3_mobileone_s0_voc12aug'))[task]
    pytest.importorskip(scope)
    cfg = Config.fromfile(CONFIGS / task / f'{name}.py')
    cfg.model.backbone.update(
        num_conv_branches=1, init_cfg=dict(type='Pretrained', checkpoint=str(trained)))
    model = build_model(cfg)
    model.init_weights()
    weights = read_checkpoint(trained)['state_dict']
    found = model.backbone.state_dict()
    assert {f'backbone.{name}' for name in found} <= set(weights)
    for name, value in found.items():
        assert torch.equal(value, weights[f'backbone.{name}']), name


def test_folded_files_are_written(trained):
    folded, = trained.parent.glob('best_*_deploy.pth')
    weights = read_checkpoint(folded)['state_dict']
    assert 'backbone.stage0.reparam_conv.weight' in weights and 'head.fc.weight' in weights


def test_pictures_and_predictions(trained, data, tmp_path):
    results = tmp_path / 'out.pkl'
    mobileone_mm.commands.train_test.test([
        str(trained.parent / 'config.py'), str(trained), '--work-dir', str(tmp_path),
        '--show-dir', str(tmp_path / 'drawn'), '--out', str(results), '--cfg-options',
        f'data_root={data}', 'model.backbone.num_conv_branches=1', 'log_level=ERROR',
        f'visualizer.name={tmp_path.name}'])
    assert len(list((tmp_path / 'drawn').glob('*.png'))) == 4
    predictions = pickle.loads(results.read_bytes())
    assert [len(one['pred_score']) for one in predictions] == [6] * 4


def test_missing_data_and_wrong_number_of_classes(data):
    cfg = config('s0_in1k')
    with pytest.raises(PreflightError, match='do not exist: data/imagenet, '):
        check_data(cfg)
    cfg = config('s0_shapes')
    cfg.merge_from_dict({'train_dataloader.dataset.data_root': str(data),
                         'model.head.num_classes': 7})
    with pytest.raises(PreflightError, match='num_classes=7, but the data set .* has 6 classes'):
        check_data(cfg, ('train', ))


def test_library_that_cannot_be_imported(monkeypatch):
    def fail(name):
        raise RuntimeError('operator torchvision::nms does not exist')
    monkeypatch.setattr('importlib.import_module', fail)
    with pytest.raises(PreflightError, match='torchvision::nms does not exist.*belongs to'):
        check_library('mmpretrain')
