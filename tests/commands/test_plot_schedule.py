"""The curves equal those of a training, and the recipes'."""

import math

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from paths import ROOT
from PIL import Image
from torchvision_stub import import_mmpretrain
from toy_classifier import toy_config

from mobileone_mm.commands.plot_schedule import draw_schedule, iterations_per_epoch, simulate

CONFIGS = ROOT / 'configs'


class _Recorder(Hook):

    def __init__(self, seen):
        self.seen = seen

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append({(g['lr'], g['weight_decay'])
                          for g in runner.optim_wrapper.optimizer.param_groups})


def test_equals_a_real_training(tmp_path):
    cfg = toy_config(tmp_path, hook=False, max_epochs=3)
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        del cfg[name]
    cfg['optim_wrapper'] = dict(
        optimizer=dict(type='SGD', lr=0.5, weight_decay=1e-2),
        paramwise_cfg=dict(custom_keys=dict(neck=dict(lr_mult=10., decay_mult=2.))))
    cfg['param_scheduler'] = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4),
        dict(type='CosineAnnealingLR', by_epoch=True, begin=0, convert_to_iter_based=True),
        dict(type='MultiStepLR', milestones=[2])]
    cfg['default_hooks']['weight_decay'] = dict(type='WeightDecayAnnealingHook')
    cfg = Config(dict(cfg, log_level='ERROR'))
    schedule = simulate(cfg, 3)
    runner, seen = Runner.from_cfg(cfg), []
    runner.register_hook(_Recorder(seen))
    runner.train()
    assert schedule.epochs.tolist() == pytest.approx([i / 3 for i in range(9)])
    for point, (lr, decay) in enumerate(zip(schedule.lr, schedule.weight_decay)):
        assert set(zip(lr.tolist(), decay.tolist())) == seen[point]
    assert schedule.resolution is None and schedule.strength.tolist() == [1, 1, 1]


def test_imagenet_recipe(tmp_path):
    import_mmpretrain()
    cfg = Config.fromfile(CONFIGS / 'classification/mobileone_s2_in1k.py')
    assert iterations_per_epoch(cfg) == 5005  # 1,281,167 images in batches of 256
    schedule = simulate(cfg, 4)
    weights = [name.startswith('weights') for name in schedule.groups]
    assert sorted(weights) == [False, True]
    lr, decay = schedule.lr[:, 0], schedule.weight_decay[:, weights.index(True)]
    at = {epoch: np.searchsorted(schedule.epochs, epoch) for epoch in (5, 152.5, 200)}
    assert lr[at[5]] == pytest.approx(0.1) and lr[0] == pytest.approx(1e-4)
    assert lr[at[152.5]] == pytest.approx(0.05, rel=1e-4)  # half of the cosine after the warm-up
    assert decay[at[200]] == pytest.approx(
        1e-5 + 9e-5 * (1 + math.cos(math.pi * 200 / 300)) / 2)
    assert not schedule.weight_decay[:, weights.index(False)].any()
    sides, strengths = schedule.resolution[:, 0].tolist(), schedule.strength.tolist()
    assert sides == [160] * 36 + [192] * 75 + [224] * 189
    assert strengths == [.3] * 36 + [.7] * 75 + [1.] * 189
    draw_schedule(schedule, tmp_path / 'picture.png', 'title')
    with Image.open(tmp_path / 'picture.png') as picture:
        assert picture.size == (800, 560)
        assert len(picture.convert('RGB').getcolors(maxcolors=10_000)) > 50


@pytest.mark.parametrize('library, name, iters, size', [
    ('mmdet', 'detection/ssdlite_mobileone_s0_coco', 611, 320),
    ('mmseg', 'segmentation/deeplabv3_mobileone_s0_voc12aug', 165, 512),
    ('mmseg', 'segmentation/deeplabv3_mobileone_s0_ade20k', 315, 512)])
def test_other_recipes(library, name, iters, size):
    pytest.importorskip(library)
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    assert iterations_per_epoch(cfg) == iters
    schedule = simulate(cfg, 2)
    assert len(schedule.strength) == cfg.train_cfg.max_epochs
    assert (schedule.resolution == size).all()
    assert len(np.unique(schedule.weight_decay)) <= 2  # constant; none for some


def test_what_cannot_be_drawn():
    cfg = Config(dict(train_cfg=dict(max_iters=5), train_dataloader=dict(
        batch_size=2, dataset=dict(type='ToyDataset'))))
    with pytest.raises(ValueError, match='epoch-based'):
        simulate(cfg, 3)
    with pytest.raises(ValueError, match='ToyDataset .* give the iterations'):
        iterations_per_epoch(cfg)
    with pytest.raises(ValueError, match='at least one'):
        simulate(Config(dict(train_cfg=dict(max_epochs=5))), 0)
