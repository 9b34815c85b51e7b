"""With all batch norms frozen, batches of one image train and keep the norms' statistics."""

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from toy_classifier import toy_config


def _runner(tmp_path, **hook):
    cfg = toy_config(tmp_path, hook=False, max_epochs=1)
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):  # time
        del cfg[name]
    cfg['train_dataloader']['batch_size'] = 1  # of 32 pixels: one cell on the last maps
    cfg['default_hooks']['checkpoint'] = None
    if hook:
        cfg['default_hooks']['freeze'] = dict(type='FreezeNormHook', **hook)
    return Runner.from_cfg(Config(dict(cfg, log_level='ERROR', experiment_name=str(hook))))


@pytest.mark.parametrize('affine', [False, True])
def test_one_image_batches(tmp_path, affine, randomize):
    runner = _runner(tmp_path, parts=['backbone', 'neck'], affine=affine)
    randomize(runner.model)
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.model.init_weights = lambda: None  # keep the random weights
    runner.train()
    changed = {name for name, value in runner.model.state_dict().items()
               if not torch.equal(value, before[name])}
    assert 'neck.conv.weight' in changed and 'fc.weight' in changed
    assert not [name for name in changed if 'running' in name or 'tracked' in name]
    gammas = {name for name in changed if '.bn.' in name or 'rbr_skip' in name}
    assert bool(gammas) != affine


def test_without_it_torch_refuses(tmp_path):
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        _runner(tmp_path).train()


@pytest.mark.parametrize('part, message', [('roi_head', "no part 'roi_head'; it has"),
                                           ('fc', 'fc holds no batch norm')])
def test_wrong_part(tmp_path, part, message):
    with pytest.raises(ValueError, match=message):
        _runner(tmp_path, parts=part).train()
