"""ReparameterizeHook within whole runs of a toy classifier (tests/toy_classifier.py)."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm
from toy_classifier import toy_config

from mobileone_mm.deploy import holds_unfolded, reparameterize
from mobileone_mm.hooks import ReparameterizeHook, reparameterize_hook
from mobileone_mm.verify import FoldingError


def build(work_dir, hooks=(), **kwargs):
    runner = Runner.from_cfg(Config(toy_config(work_dir, **kwargs)))
    for hook in hooks:
        runner.register_hook(hook)
    return runner


def find(runner, kind):
    return next(hook for hook in runner.hooks if isinstance(hook, kind))


def weights(path):
    return torch.load(path, map_location='cpu')['state_dict']


def test_score(config, checkpoint, work_dir):
    """What tools/test.py does."""
    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.load_from = str(work_dir), str(checkpoint)
    return Runner.from_cfg(cfg).test()['score']


test_score.__test__ = False


class Trace(Hook):
    """Keeps the loss of every iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())


class Draw(Hook):
    """Disturbs torch's generator as a careless hook would."""

    def after_val(self, runner):
        torch.rand(1)


@pytest.mark.parametrize('ema', [False, True])
def test_training_is_bit_identical_with_and_without_the_hook(tmp_path, ema):
    def train(name, hook, extra=()):
        trace = Trace()
        runner = build(tmp_path / name, hook=hook, ema=ema, hooks=[trace, *extra])
        runner.train()
        return trace.losses, runner.model.state_dict()

    losses, state = train('without', hook=False)
    losses_with, state_with = train('with', hook=True)
    assert losses == losses_with
    assert list(state) == list(state_with)
    assert all(torch.equal(state[key], state_with[key]) for key in state)
    # The comparison can fail: one random number drawn in between changes it.
    assert train('disturbed', hook=False, extra=[Draw()])[0] != losses


class Probe(Hook):
    """Looks at runner.model during and after validation, last of all hooks."""

    priority = 'LOWEST'

    def __init__(self):
        self.folded, self.restored, self.ema = [], [], []

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 0:
            assert not holds_unfolded(runner.model) and not runner.model.training
            self.folded.append({k: v.clone() for k, v in runner.model.state_dict().items()})
            # EMAHook has swapped: the model holds the averaged weights for now.
            trained = find(runner, ReparameterizeHook)._trained
            self.ema.append(reparameterize(trained).state_dict())

    def after_val_epoch(self, runner, metrics=None):
        self.restored.append(holds_unfolded(runner.model))


def test_validation_folds_the_averaged_weights_and_deploys_them(tmp_path):
    probe = Probe()
    runner = build(tmp_path, ema=True, hooks=[probe])
    runner.train()
    assert probe.restored == [True] * 3
    averaged = find(runner, EMAHook).ema_model.module
    expected = reparameterize(averaged).state_dict()
    last = weights(tmp_path / 'epoch_3_deploy.pth')
    raw = reparameterize(runner.model.eval()).state_dict()
    for key, value in probe.folded[-1].items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0)
        torch.testing.assert_close(last[key], expected[key], rtol=0, atol=0)
    assert any(not torch.equal(raw[key], expected[key]) for key in raw)
    # mmengine keeps the averaged weights under state_dict, and never a folded one.
    saved = weights(tmp_path / 'epoch_3.pth')
    assert saved.keys() == averaged.state_dict().keys()
    assert all(torch.equal(saved[k], v) for k, v in averaged.state_dict().items())


@pytest.mark.parametrize('ema', [False, True])
def test_deployed_files_load_together_and_score_the_same(tmp_path, ema):
    runner = build(tmp_path, ema=ema)
    runner.train()
    score = runner.message_hub.get_scalar('val/score')
    best = runner.message_hub.get_info('best_ckpt')
    # With a learning rate this high the score moves up and down; the best is not always the last.
    files = sorted(path.name for path in tmp_path.glob('*_deploy.*'))
    stems = {Path(best).stem, 'epoch_3'}
    assert files == sorted(f'{stem}_deploy.{ext}' for stem in stems for ext in ('pth', 'py'))
    for stem, expected in ((Path(best).stem, runner.message_hub.get_info('best_score')),
                           ('epoch_3', score.current())):
        deployed = tmp_path / f'{stem}_deploy'
        content = torch.load(deployed.with_suffix('.pth'))
        assert sorted(content) == ['meta', 'state_dict']
        assert content['meta']['dataset_meta']['classes'] == ('dark', 'grey', 'bright')
        assert Config.fromstring(content['meta']['cfg'], '.py').model.backbone.deploy
        assert test_score(deployed.with_suffix('.py'), deployed.with_suffix('.pth'),
                          tmp_path / 'test') == pytest.approx(expected, abs=1e-6)
