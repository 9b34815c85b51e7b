"""A checkpoint of another training is refused before anything is written."""

import pytest
from toy_classifier import TINY_ARCH
from toy_runs import build, edit, files, train

from mobileone_mm.utils.checkpoint_files import CheckpointError

OPTIMIZER = 'optim_wrapper.optimizer'


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('fitting') / 'run'
    train(folder, hook=False, max_epochs=1, options={
        'param_scheduler': [dict(type='ConstantLR', factor=.5)]})
    return folder


def arch(**changes):
    return {'model.backbone.arch': {**TINY_ARCH, **changes}}


SCHEDULER = dict(type='ConstantLR', factor=.5)
ADAM = {OPTIMIZER: dict(_delete_=True, type='AdamW', lr=.1)}


@pytest.mark.parametrize('options, expected', [
    (arch(width_factor=(.25, .25, .25, .125)), r'of another shape \(backbone'),
    (arch(num_conv_branches=(3, 2, 1, 1)), r'missing \(backbone'),
    (arch(num_conv_branches=(1, 2, 1, 1)), r'unknown \(backbone'),
    ({'model.norm_cfg': dict(type='GN', num_groups=2)}, r'unknown \(neck.norm|missing \(neck'),
    (ADAM, r"an optimizer with the options .*'momentum'.* but the config has AdamW"),
    ({'optim_wrapper.paramwise_cfg': dict(bias_lr_mult=2.)},
     r'1 groups of an optimizer with \d+ parameters, but the config has \d+ with'),
    ({'param_scheduler': [SCHEDULER, SCHEDULER]}, '1 parameter schedulers, but the config has 2'),
])
def test_another_model_or_optimizer_is_refused(work_dir, options, expected):
    before = files(work_dir)
    options = {'param_scheduler': [SCHEDULER], **options}
    runner = build(work_dir, work_dir / 'epoch_1.pth', hook=False, options=options)
    copy = next(work_dir.glob('*.py'), None)
    with pytest.raises(CheckpointError, match=expected) as caught:
        runner.train()
    message = str(caught.value)
    assert 'epoch_1.pth' in message and '\n' not in message
    assert files(work_dir) == before
    assert next(work_dir.glob('*.py'), None) == copy  # of the config


def test_adam_is_not_adamw(tmp_path):
    options = {OPTIMIZER: dict(_delete_=True, type='Adam', lr=.01)}
    runner = train(tmp_path, hook=False, max_epochs=1, options=options)
    if 'decoupled_weight_decay' not in runner.optim_wrapper.optimizer.param_groups[0]:
        pytest.skip('this torch does not store which one it is')
    with pytest.raises(CheckpointError, match='Adam or AdamW'):
        train(tmp_path, tmp_path / 'epoch_1.pth', hook=False, options=ADAM)


def test_averaged_weights_need_their_hook(tmp_path):
    train(tmp_path, hook=False, ema=True, max_epochs=1)
    with pytest.raises(CheckpointError, match='averaged weights, but the config has no EMAHook'):
        train(tmp_path, tmp_path / 'epoch_1.pth', hook=False, max_epochs=1)
    assert train(tmp_path, tmp_path / 'epoch_1.pth', hook=False, ema=True).epoch == 2


def test_an_optimizer_of_other_parts_is_refused(work_dir, tmp_path):
    broken = tmp_path / 'epoch_1.pth'
    broken.write_bytes((work_dir / 'epoch_1.pth').read_bytes())
    edit(broken, lambda checkpoint: checkpoint.update(optimizer=dict(param_groups=7)))
    with pytest.raises(CheckpointError, match='no groups of an optimizer'):
        train(tmp_path, broken, hook=False, options={'param_scheduler': [SCHEDULER]})
