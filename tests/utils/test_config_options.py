"""--cfg-options take effect or are refused."""

import pytest
from paths import ROOT

from mobileone_mm.utils.configs import read_config
from mobileone_mm.utils.errors import PreflightError

pytest.importorskip('mmdet')

COCO = ROOT / 'configs/detection/ssdlite_mobileone_s0_coco.py'
SHAPES = ROOT / 'configs/detection/ssdlite_mobileone_s0_shapes.py'


def test_a_pipeline_is_changed_where_it_is_used():
    cfg = read_config(COCO, ['train_pipeline.4.scale=(192,192)',
                             'train_pipeline.0.to_float32=True'])
    used = cfg.train_dataloader.dataset.pipeline
    assert used == cfg.train_pipeline
    assert used[4].scale == (192, 192) and used[0].to_float32 is True
    assert cfg.val_dataloader.dataset.pipeline[1].scale == (320, 320)


@pytest.mark.parametrize('option, message', [
    ('input_size=192', 'input_size is a variable of the config file.*train.*pipeline.4.scale'),
    ('dataset_type=MyDataset', 'dataset_type is a variable.*train_dataloader.dataset.type'),
    ('optim_wraper.optimizer.lr=1', "nothing reads 'optim_wraper': did you mean 'optim_wrapper'"),
    ('lr=0.1', "nothing reads 'lr'$"),
    ('model.test_cfg.score_thrr=0.3', "model.test_cfg has no 'score_thrr': did you .*'score_thr'"),
    ('default_hooks.loger.interval=1', "default_hooks has no 'loger': did you mean 'logger'"),
    ('train_pipeline.99.scale=1', 'Index 99 exceeds'),
    ('train_cfg.max_epochs.x=1', 'max_epochs'),
    ('work_dir', '--cfg-options work_dir: expected KEY=VALUE'),
    ('=1', 'expected KEY=VALUE'),
    ('train_cfg.max_epochs=0', 'train_cfg.max_epochs=0: expected a whole number of at least 1'),
    ('train_cfg.max_epochs=1.5', 'train_cfg.max_epochs=1.5: expected a whole number'),
    ('train_cfg.val_interval=0', 'train_cfg.val_interval=0: expected'),
    ('val_dataloader.batch_size=0', 'val_dataloader.batch_size=0: expected'),
    ('train_dataloader.num_workers=-1', 'num_workers=-1: expected a whole number of at least 0'),
])
def test_an_option_without_effect_is_refused(option, message):
    with pytest.raises(PreflightError, match=message):
        read_config(COCO, [option])


@pytest.mark.parametrize('option', [
    'optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult=0.1', 'randomness.seed=1',
    'model.test_cfg.max_per_img=5', 'sync_bn=torch', 'load_from=x.pth', 'compile=True',
    'default_hooks.weight_decay.type=WeightDecayAnnealingHook', 'env_cfg.cudnn_benchmark=True',
    'visualizer.vis_backends.0.type=TensorboardVisBackend'])
def test_options_that_are_read(option):
    key, _, value = option.partition('=')
    node = read_config(COCO, [option])
    for name in key.split('.'):
        node = node[int(name) if name.isdigit() else name]
    assert str(node) == value


@pytest.mark.parametrize('before', [None, [dict(type='Kaiming', layer='Conv2d')],
                                    dict(type='Kaiming', layer='Conv2d')])
def test_a_checkpoint_replaces_any_init_cfg(before):
    assert isinstance(read_config(SHAPES).model.backbone.init_cfg, list)
    cfg = read_config(SHAPES, {'model.backbone.init_cfg': before} if before is None else None)
    cfg.model.backbone.init_cfg = before
    from mobileone_mm.utils.config_options import apply_options
    apply_options(cfg, {'model.backbone.init_cfg.checkpoint': 'x.pth',
                        'model.backbone.init_cfg.unfold': True})
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='x.pth', unfold=True)


def test_any_default_hook_can_be_left_out():
    assert 'reparameterize' in read_config(COCO).default_hooks
    hooks = read_config(COCO, ['default_hooks.reparameterize=None', 'default_hooks.timer=None'])
    assert 'reparameterize' not in hooks.default_hooks
    assert hooks.default_hooks.timer is None  # mmengine removes its own hooks itself


def test_no_workers_do_not_persist():
    cfg = read_config(COCO, ['train_dataloader.num_workers=0'])
    assert not cfg.train_dataloader.persistent_workers and cfg.val_dataloader.persistent_workers
