"""ReparameterizeHook in complete runs of a toy classifier (tests/helpers/toy_classifier.py)."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import folding_faults
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook, IterTimerHook
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner
from paths import ROOT
from toy_classifier import toy_config

from mobileone_mm.engine.hooks import ReparameterizeHook, reparameterize_hook
from mobileone_mm.folding.reparameterize import holds_unfolded, reparameterize
from mobileone_mm.folding.verify import FoldingError
from mobileone_mm.utils.checkpoint_files import NonFiniteWeightsError, read_checkpoint


def build(work_dir, hooks=(), **kwargs):
    runner = Runner.from_cfg(Config(toy_config(work_dir, **kwargs)))
    for hook in hooks:
        runner.register_hook(hook)
    return runner


def find(runner, kind):
    return next(hook for hook in runner.hooks if isinstance(hook, kind))


def weights(path):
    return read_checkpoint(path)['state_dict']


def score_of(deployed, work_dir):
    """Test a pair of deployed files as tools/test.py does."""
    cfg = Config.fromfile(deployed.with_suffix('.py'))
    cfg.work_dir, cfg.load_from = str(work_dir), str(deployed.with_suffix('.pth'))
    return Runner.from_cfg(cfg).test()['score']


class Trace(Hook):
    """Keeps the loss of every iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())


class Draw(Hook):
    """Draws from torch's generator, like a careless hook."""

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
    if not ema:  # the comparison can fail: a single random number changes it
        assert train('disturbed', hook=False, extra=[Draw()])[0] != losses


class Probe(Hook):
    """Checks runner.model during and after validation, as the last hook."""

    priority = 'LOWEST'

    def __init__(self):
        self.folded, self.restored, self.ema = [], [], []

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 0:
            assert not holds_unfolded(runner.model) and not runner.model.training
            self.folded.append({k: v.clone() for k, v in runner.model.state_dict().items()})
            # EMAHook has swapped: the model holds the averaged weights.
            trained = find(runner, ReparameterizeHook)._trained
            self.ema.append(reparameterize(trained).state_dict())

    def after_val_epoch(self, runner, metrics=None):
        self.restored.append(holds_unfolded(runner.model))


def test_validation_folds_the_averaged_weights_and_deploys_them(tmp_path):
    probe = Probe()
    runner = build(tmp_path, ema=True, hooks=[probe])
    runner.train()
    assert probe.restored == [True] * 2
    averaged = find(runner, EMAHook).ema_model.module
    expected = reparameterize(averaged).state_dict()
    last = weights(tmp_path / 'epoch_2_deploy.pth')
    raw = reparameterize(runner.model.eval()).state_dict()
    for key, value in probe.folded[-1].items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0)
        torch.testing.assert_close(last[key], expected[key], rtol=0, atol=0)
    assert any(not torch.equal(raw[key], expected[key]) for key in raw)
    # mmengine keeps the averaged weights under state_dict, and never folded ones.
    saved = weights(tmp_path / 'epoch_2.pth')
    assert saved.keys() == averaged.state_dict().keys()
    assert all(torch.equal(saved[k], v) for k, v in averaged.state_dict().items())


@pytest.mark.parametrize('ema', [False, True])
def test_deployed_files_load_together_and_score_the_same(tmp_path, ema):
    runner = build(tmp_path, ema=ema)
    runner.train()
    score = runner.message_hub.get_scalar('val/score')
    best = runner.message_hub.get_info('best_ckpt')
    # The learning rate is so high that the best score is not always the last.
    files = sorted(path.name for path in tmp_path.glob('*_deploy.*'))
    stems = {Path(best).stem, 'epoch_2'}
    assert files == sorted(f'{stem}_deploy.{ext}' for stem in stems for ext in ('pth', 'py'))
    for stem, expected in ((Path(best).stem, runner.message_hub.get_info('best_score')),
                           ('epoch_2', score.current())):
        deployed = tmp_path / f'{stem}_deploy'
        content = torch.load(deployed.with_suffix('.pth'))
        assert sorted(content) == ['meta', 'state_dict']
        assert content['meta']['dataset_meta']['classes'] == ('dark', 'gray', 'bright')
        assert Config.fromstring(content['meta']['cfg'], '.py').model.backbone.deploy
        assert score_of(deployed, tmp_path / 'test') == pytest.approx(expected, abs=1e-6)


def zero_a_bias(monkeypatch, block='backbone.stage2.0'):
    """Make folding wrong in one block."""
    def broken(model, **kwargs):
        folded = reparameterize(model, **kwargs)
        with torch.no_grad():
            folded.get_submodule(block).reparam_conv.bias.zero_()
        return folded
    monkeypatch.setattr(reparameterize_hook, 'reparameterize', broken)


def randomized(runner, randomize):
    randomize(runner.model)
    return runner


def test_a_wrong_fold_stops_the_run_and_is_named(tmp_path, monkeypatch, randomize):
    zero_a_bias(monkeypatch)
    runner = randomized(build(tmp_path), randomize)
    with pytest.raises(FoldingError, match=r'^backbone\.stage2\.0 is the first'):
        runner.val()
    assert holds_unfolded(runner.model)  # the copy never replaced the model


@pytest.mark.parametrize('fault', folding_faults.FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_in_each_folding_function_stops_the_run(tmp_path, monkeypatch, randomize, fault):
    runner = randomized(build(tmp_path), randomize)
    assert runner.model.backbone.stage1[0].branch_engine == 'auto'
    fault(monkeypatch)
    with pytest.raises(FoldingError, match=r'^backbone\.stage\d.* is the first'):
        runner.val()


class PlantLate(Hook):
    """Make folding wrong in the last epoch."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch

    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            folding_faults.halve_the_kernel(self.monkeypatch)


def test_every_written_file_is_checked_and_no_other_copy(tmp_path, monkeypatch):
    checked = []
    intact = reparameterize_hook.verify_on_batch
    monkeypatch.setattr(reparameterize_hook, 'verify_on_batch', lambda *args: (
        checked.append(tuple(args[2]['inputs'].shape)), intact(*args))[1])
    build(tmp_path / 'sound', max_epochs=4).train()
    deployed = log(tmp_path / 'sound').count('Deployed')
    assert checked == [(1, 3, 32, 32)] * deployed and deployed >= 2
    with pytest.raises(FoldingError, match='is the first module'):
        build(tmp_path / 'late', hooks=[PlantLate(monkeypatch)]).train()
    assert not (tmp_path / 'late/epoch_2_deploy.pth').exists()


def test_without_a_best_checkpoint_the_first_copy_is_checked(tmp_path, monkeypatch):
    folding_faults.halve_the_kernel(monkeypatch)
    cfg = toy_config(tmp_path)
    cfg['default_hooks'] = {}
    runner = Runner.from_cfg(Config(cfg))
    with pytest.raises(FoldingError):
        runner.train()
    assert runner.epoch == 1


def test_without_validation_a_training_image_is_used(tmp_path, monkeypatch):
    cfg = toy_config(tmp_path, max_epochs=1)
    cfg.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    cfg['train_cfg'].pop('val_interval')
    cfg['default_hooks'] = {}
    Runner.from_cfg(Config(cfg)).train()
    assert 'differ by at most' in log(tmp_path) and (tmp_path / 'epoch_1_deploy.pth').exists()
    folding_faults.zero_the_bias(monkeypatch)
    cfg['work_dir'] = str(tmp_path / 'faulty')
    with pytest.raises(FoldingError):
        Runner.from_cfg(Config(cfg)).train()


def test_folding_is_not_logged_as_the_loaders_time(tmp_path, monkeypatch):
    intact = reparameterize_hook.verify_on_batch
    monkeypatch.setattr(reparameterize_hook, 'verify_on_batch', lambda *args: (
        time.sleep(2), intact(*args))[1])
    runner = build(tmp_path)
    assert find(runner, IterTimerHook)
    runner.test()
    times = runner.message_hub.get_scalar('test/data_time').data[0]
    assert len(times) == 3 and max(times) < 1


class Diverge(Hook):

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.model.fc.bias.data[1] = float('nan')


@pytest.mark.parametrize('validate', [True, False])
def test_a_diverged_run_is_reported(tmp_path, validate):
    cfg = toy_config(tmp_path)
    if not validate:
        cfg['train_cfg']['val_interval'] = 100
    runner = Runner.from_cfg(Config(cfg))
    runner.register_hook(Diverge())
    with pytest.raises(NonFiniteWeightsError, match='the weights are NaN, backbone.stage0'):
        runner.train()
    assert not list(tmp_path.glob('*_deploy.*'))


class Fail(Hook):

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        raise OSError('disk full')


@pytest.mark.parametrize('stage', ['before_run', 'before_train_epoch', 'before_val_epoch',
                                   'before_test_epoch'])
def test_the_model_is_restored_after_a_failed_validation(tmp_path, stage):
    runner = build(tmp_path, hooks=[Fail()])
    model = runner.model
    with pytest.raises(OSError, match='disk full'):
        runner.val()
    assert runner.model is not model
    getattr(find(runner, ReparameterizeHook), stage)(runner)
    assert runner.model is model


class SaveDuringValidation(Hook):

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.save_checkpoint(runner.work_dir, 'middle.pth', save_optimizer=False,
                               save_param_scheduler=False)


def test_a_checkpoint_saved_during_validation_is_not_folded(tmp_path):
    cfg = toy_config(tmp_path)
    cfg['default_hooks'] = dict(checkpoint=None)
    runner = Runner.from_cfg(Config(cfg))
    runner.register_hook(SaveDuringValidation())
    runner.val()
    saved = weights(tmp_path / 'middle.pth')
    assert saved.keys() == runner.model.state_dict().keys()


def test_test_runs_on_a_verified_folded_copy(tmp_path, randomize, caplog):
    with_hook = randomized(build(tmp_path / 'a'), randomize)
    without = build(tmp_path / 'b', hook=False)
    without.model.load_state_dict(with_hook.model.state_dict())
    assert with_hook.test()['score'] == pytest.approx(without.test()['score'], abs=1e-6)
    assert 'differ by at most' in log(tmp_path / 'a')
    assert holds_unfolded(with_hook.model)


def log(work_dir):
    return next(Path(work_dir).glob('*/*.log')).read_text()


class ToyTTA(BaseTTAModel):
    """Averages nothing: one view."""

    def merge_preds(self, data_samples_list):
        return [samples[0] for samples in data_samples_list]


def test_test_time_augmentation(tmp_path, randomize):
    runner = randomized(build(tmp_path), randomize)
    plain = runner.model.test_step
    batch = next(iter(Runner.build_dataloader(runner.cfg.test_dataloader)))
    views = {key: [value] for key, value in batch.items()}
    runner.model = ToyTTA(runner.model).eval()
    hook = find(runner, ReparameterizeHook)
    hook.before_run(runner)
    expected = [sample['logits'] for sample in plain(batch)]
    hook.before_test_iter(runner, 0, views)
    assert isinstance(runner.model, ToyTTA) and not holds_unfolded(runner.model)
    actual = [sample['logits'] for sample in runner.model.test_step(views)]
    torch.testing.assert_close(actual, expected)


def test_a_superseded_best_leaves_no_deploy_files_even_after_resuming(tmp_path):
    build(tmp_path, max_epochs=1).train()
    assert (tmp_path / 'best_score_epoch_1_deploy.pth').exists()
    runner = build(tmp_path, max_epochs=2)
    runner._resume, runner._load_from = True, str(tmp_path / 'epoch_1.pth')
    # Any score is better than this, so epoch 2 supersedes epoch 1.
    runner.register_hook(Forget())
    runner.train()
    assert sorted(path.name for path in tmp_path.glob('best_*')) == [
        'best_score_epoch_2.pth', 'best_score_epoch_2_deploy.pth', 'best_score_epoch_2_deploy.py']


class Forget(Hook):

    def before_train(self, runner):
        runner.message_hub.update_info('best_score', -1.0)


def test_a_model_with_nothing_to_fold_is_left_alone(tmp_path):
    cfg = toy_config(tmp_path, max_epochs=1)
    cfg['model']['backbone']['deploy'] = True
    Runner.from_cfg(Config(cfg)).train()
    assert not list(tmp_path.glob('*_deploy.*'))
    assert 'ReparameterizeHook is idle' in log(tmp_path)


def test_iteration_based_training(tmp_path):
    cfg = toy_config(tmp_path)
    cfg['train_cfg'] = dict(by_epoch=False, max_iters=4, val_interval=2)
    cfg['default_hooks']['checkpoint'].update(by_epoch=False, interval=2)
    Runner.from_cfg(Config(cfg)).train()
    assert (tmp_path / 'iter_4_deploy.pth').exists()
    assert len(list(tmp_path.glob('best_score_iter_*_deploy.pth'))) == 1


def test_a_run_without_a_config_is_refused_before_training(tmp_path):
    runner = build(tmp_path)
    runner.cfg = Config()
    with pytest.raises(ValueError, match='has no `model`'):
        find(runner, ReparameterizeHook).before_run(runner)
        find(runner, ReparameterizeHook).before_train(runner)


WORKER = """
import sys
from pathlib import Path
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from toy_classifier import toy_config
from mobileone_mm.folding.reparameterize import reparameterize
from mobileone_mm.engine.hooks import reparameterize_hook

torch.distributed.init_process_group('gloo')  # mmengine's own function needs CUDA
cfg = toy_config(Path(sys.argv[1]), max_epochs=1)
cfg['custom_hooks'].append(dict(type='SyncBuffersHook'))  # without SyncBN, ranks would differ
cfg.update(launcher='pytorch',
           model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None))
runner = Runner.from_cfg(Config(cfg))
runner.train()
print('final', runner.message_hub.get_scalar('val/score').current())

def wrong(model, **kwargs):
    folded = reparameterize(model, **kwargs)
    folded.backbone.stage3[0].reparam_conv.bias.data += 1
    return folded

reparameterize_hook.reparameterize = wrong
try:
    runner.val_loop.run()
except RuntimeError as error:
    print(f'stopped by {type(error).__name__}: {error}')
torch.distributed.destroy_process_group()  # whose threads may abort a process that exits
"""


def launch(script, *args):
    """Run a script in two processes; returns their exit codes and outputs."""
    path = [str(ROOT), str(ROOT / 'tests/helpers')]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(path), WORLD_SIZE='2', OMP_NUM_THREADS='1',
               MASTER_ADDR='127.0.0.1', MASTER_PORT=str(20000 + os.getpid() % 20000))
    processes = [
        subprocess.Popen([sys.executable, '-c', script, *args], text=True, stderr=subprocess.STDOUT,
                         env=dict(env, RANK=str(rank), LOCAL_RANK=str(rank)),
                         stdout=subprocess.PIPE) for rank in range(2)]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def test_two_processes(tmp_path):
    codes, outputs = launch(WORKER, str(tmp_path))
    assert codes == [0, 0], outputs
    # Rank 0 writes, and both have validated the same weights.
    scores = [float(re.search('^final (.*)', output, re.M)[1]) for output in outputs]
    assert scores[0] == scores[1]
    assert 'Deployed' in outputs[0] and 'Deployed' not in outputs[1]
    deployed = tmp_path / 'epoch_1_deploy'
    assert score_of(deployed, tmp_path / 'test') == pytest.approx(scores[0], abs=1e-6)
    # A wrong fold, which rank 0 finds, stops both instead of making one wait forever.
    assert 'stopped by FoldingError' in outputs[0]
    assert 'stopped by RuntimeError: FoldingError on rank 0' in outputs[1]
    assert all('backbone.stage3.0' in output.split('stopped by')[1] for output in outputs)
