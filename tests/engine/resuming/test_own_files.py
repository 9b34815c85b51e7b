"""A resumed run removes and writes files only in its own directory."""

import shutil

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from toy_runs import build, edit, files, train

from mobileone_mm.engine.resuming.atomic_backend import LateRemovals
from mobileone_mm.engine.resuming.own_files import own_files_only
from mobileone_mm.utils.checkpoint_files import CheckpointError


class Score(Hook):
    """Replaces the metric by a given value for each epoch."""

    priority = 'HIGHEST'

    def __init__(self, *values):
        self.values = values

    def after_val_epoch(self, runner, metrics=None):
        metrics['score'] = self.values[runner.epoch - 1]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A training of one epoch, with a best checkpoint and two deployed pairs."""
    folder = tmp_path_factory.mktemp('trained') / 'A'
    train(folder, hooks=[Score(1.)], max_epochs=1)
    assert sorted(files(folder)) == [
        'best_score_epoch_1.pth', 'best_score_epoch_1_deploy.pth', 'best_score_epoch_1_deploy.py',
        'epoch_1.pth', 'epoch_1_deploy.pth', 'epoch_1_deploy.py']
    info = torch.load(folder / 'epoch_1.pth', weights_only=False)['message_hub']['runtime_info']
    assert info['best_ckpt'] == str(folder / 'best_score_epoch_1.pth')
    return folder


@pytest.fixture
def first(trained, tmp_path):
    """That training, as if it had run in ``tmp_path / 'A'``."""
    shutil.copytree(trained, tmp_path / 'A')
    edit(tmp_path / 'A' / 'epoch_1.pth', lambda c: c['message_hub']['runtime_info'].update({
        key: str(tmp_path / 'A' / name) for key, name in (
            ('best_ckpt', 'best_score_epoch_1.pth'), ('last_ckpt', 'epoch_1.pth'))}))
    return tmp_path / 'A'


def test_a_fork_leaves_the_first_run_alone(first, tmp_path):
    before = files(first)
    train(tmp_path / 'B', first / 'epoch_1.pth', hooks=[Score(1., 2.)])
    assert files(first) == before
    assert {'best_score_epoch_2.pth', 'best_score_epoch_2_deploy.pth', 'epoch_2.pth',
            'epoch_2_deploy.pth'} <= set(files(tmp_path / 'B'))


def test_a_fork_that_is_never_better_leaves_the_first_run_alone(first, tmp_path):
    (first / 'best_score_epoch_1_deploy.pth').unlink()  # mmengine would create it again
    before = files(first)
    train(tmp_path / 'B', first / 'epoch_1.pth', hooks=[Score(1., .5)])
    assert files(first) == before
    assert not list((tmp_path / 'B').glob('best_*'))


def test_a_fork_with_nothing_left_to_train_writes_nothing_into_the_first(first, tmp_path):
    before = files(first)
    train(tmp_path / 'B', first / 'epoch_1.pth', hooks=[Score(1.)], max_epochs=1)
    assert files(first) == before and not files(tmp_path / 'B')


def test_a_copied_directory_replaces_its_own_best(first, tmp_path):
    before, copy = files(first), tmp_path / 'B'
    shutil.copytree(first, copy)
    train(copy, copy / 'epoch_1.pth', hooks=[Score(1., 2.)])
    assert files(first) == before
    assert [path.name for path in copy.glob('best_*_epoch_1*')] == []
    assert (copy / 'best_score_epoch_2_deploy.pth').exists()


def test_files_of_another_training_in_the_target_are_not_the_forks(first, tmp_path):
    other = tmp_path / 'B'
    shutil.copytree(first, other)
    own = files(other)
    train(other, first / 'epoch_1.pth', hooks=[Score(1., 2.)], options={
        'default_hooks.checkpoint.max_keep_ckpts': 1})
    assert {name: files(other)[name] for name in own} == own


def test_the_best_of_the_same_epoch_found_again_stays(first):
    before = files(first)
    train(first, first / 'epoch_1.pth', hooks=[Score(2.)], max_epochs=1)
    assert files(first).keys() == before.keys()
    best = torch.load(first / 'best_score_epoch_1.pth', weights_only=False)
    assert best['message_hub']['runtime_info']['best_score'] == 2.


def _crafted(path, tmp_path):
    info = dict(best_ckpt=path, last_ckpt=path, keep_ckpt_ids=['../../precious', .5, None, 3])
    hub = dict(runtime_info=info, resumed_keys=dict.fromkeys(info, True), log_scalars={})
    own_files_only(hub, tmp_path / 'A' / 'epoch_1.pth', [tmp_path / 'A'])
    return info


@pytest.mark.parametrize('path', ['{}/precious.pth', '{}/A/precious.txt', '{}/A/..', '{}', '', 7])
def test_paths_of_other_files_are_dropped(tmp_path, path):
    (tmp_path / 'A').mkdir()
    for file in ('precious.pth', 'A/precious.txt'):
        (tmp_path / file).touch()
    path = path.format(tmp_path) if isinstance(path, str) else path
    assert _crafted(path, tmp_path) == dict(keep_ckpt_ids=[3])


def test_a_crafted_hub_removes_nothing(first, tmp_path):
    precious = [tmp_path / 'precious.pth', tmp_path / 'precious_deploy.pth']
    for file in precious:
        file.write_text('mine')
    edit(first / 'epoch_1.pth', lambda c: c['message_hub']['runtime_info'].update(
        best_ckpt=str(precious[0]), last_ckpt=str(precious[0])))
    train(first, first / 'epoch_1.pth', hooks=[Score(1., 2.)])
    assert all(file.read_text() == 'mine' for file in precious)
    assert (first / 'best_score_epoch_2_deploy.pth').exists()


def test_a_hub_of_another_shape_is_refused(first):
    edit(first / 'epoch_1.pth', lambda c: c.update(message_hub=dict(runtime_info=[])))
    with pytest.raises(CheckpointError, match='epoch_1.pth holds a damaged message hub'):
        train(first, first / 'epoch_1.pth')


def test_paths_of_several_metrics_are_re_rooted(tmp_path):
    (tmp_path / 'best_a_epoch_1.pth').touch()
    info = {'best_ckpt_a': '/elsewhere/best_a_epoch_1.pth', 'best_ckpt_b': '/elsewhere/best_b.pth',
            'best_score_a': 1., 'keep_ckpt_ids': [1, 2]}
    hub = dict(runtime_info=info, resumed_keys=dict.fromkeys(info, True), log_scalars={})
    assert own_files_only(hub, tmp_path / 'epoch_1.pth', [tmp_path]) == ['/elsewhere/best_b.pth']
    assert info == {'best_ckpt_a': str(tmp_path / 'best_a_epoch_1.pth'), 'best_score_a': 1.,
                    'keep_ckpt_ids': [1, 2]}
    assert 'best_ckpt_b' not in hub['resumed_keys']


def test_interrupted_is_found_beside_the_directory_of_the_checkpoint_hook(tmp_path):
    work_dir, saved = tmp_path / 'run', tmp_path / 'saved' / 'run'
    saved.mkdir(parents=True)
    (saved / 'best_a_epoch_1.pth').touch()
    info = dict(best_ckpt='/elsewhere/best_a_epoch_1.pth', keep_ckpt_ids=[1])
    hub = dict(runtime_info=info, resumed_keys={}, log_scalars={})
    assert not own_files_only(hub, work_dir / 'interrupted.pth', [work_dir, saved])
    assert info == dict(best_ckpt=str(saved / 'best_a_epoch_1.pth'), keep_ckpt_ids=[1])


def test_the_backend_removes_only_in_its_directory_and_no_new_file(tmp_path):
    own, replaced, foreign = (tmp_path / 'own' / 'a', tmp_path / 'own' / 'b', tmp_path / 'c')
    own.parent.mkdir()
    for path in (own, replaced, foreign):
        path.write_text('old')
    backend = LateRemovals(own.parent)
    for path in (own, replaced, foreign):
        backend.remove(path)
    backend.put(b'new', replaced)
    assert own.exists()
    backend.flush()
    assert not own.exists() and replaced.read_text() == 'new' and foreign.exists()
    backend.rmtree(tmp_path)
    assert foreign.exists()


def test_what_is_in_a_checkpoint_is_never_run(first, tmp_path):
    code = f'open({str(tmp_path / "ran")!r}, "w")'
    edit(first / 'epoch_1.pth', lambda c: c['meta'].update(config=code, cfg=code))
    train(first, first / 'epoch_1.pth')
    assert not (tmp_path / 'ran').exists()
    cfg = build(tmp_path / 'B', first / 'epoch_1.pth').cfg
    Runner.from_cfg(cfg).train()  # mmengine itself does
    assert (tmp_path / 'ran').exists()
