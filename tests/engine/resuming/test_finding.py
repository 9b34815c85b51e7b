"""The newest complete checkpoint in a directory is resumed."""

import os
import shutil
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mobileone_mm.engine import find_checkpoint, is_whole, run_directories
from mobileone_mm.utils.checkpoint_files import CheckpointError


def save(path, epoch, iteration, **parts):
    content = dict(meta=dict(epoch=epoch, iter=iteration), message_hub={}, optimizer={},
                   state_dict=dict(weight=torch.arange(6.)))
    torch.save({**content, **parts}, path)
    return path


@pytest.mark.parametrize('names', [
    [('epoch_8.pth', 8, 80), ('epoch_10.pth', 10, 100)],
    [('epoch_8.pth', 8, 80), ('interrupted.pth', 8, 83)],
    [('interrupted.pth', 8, 83), ('epoch_9.pth', 9, 90)],
    [('iter_900.pth', 0, 900), ('iter_1000.pth', 0, 1000)],
    [('epoch_2.pth', 2, 20), ('interrupted.pth', 3, 15)],  # resumed with a larger batch
])
def test_the_newest_is_found_by_epoch_and_iteration(tmp_path, names):
    for age, (name, epoch, iteration) in enumerate(names):  # copying changed the times
        os.utime(save(tmp_path / name, epoch, iteration), (1000 - age, 1000 - age))
    assert find_checkpoint(tmp_path) == tmp_path / names[-1][0]


def test_each_damaged_bit_of_the_directory_is_noticed_or_harmless(tmp_path):
    content = save(tmp_path / 'epoch_1.pth', 1, 10).read_bytes()
    with zipfile.ZipFile(tmp_path / 'epoch_1.pth') as archive:
        start = archive.start_dir
    rng, noticed, path = np.random.default_rng(0), 0, tmp_path / 'epoch_2.pth'
    for place in rng.choice(np.arange(start, len(content)), 150, replace=False):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        if is_whole(path):
            weights = torch.load(path, weights_only=True)['state_dict']
            assert weights['weight'].tolist() == list(range(6)), place
        else:
            noticed += 1
            assert find_checkpoint(tmp_path).name == 'epoch_1.pth'
    assert noticed > 30


def _other_zip(path):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('holiday.txt', 'photographs')


class Payload:
    def __reduce__(self):
        return os.mkdir, ('ran', )


@pytest.mark.parametrize('make', [
    _other_zip,
    lambda path: path.write_text('a foreign file'),
    lambda path: torch.save(dict(weight=torch.ones(2)), path),
    lambda path: torch.save([1, 2], path),
    lambda path: torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(path)),
    lambda path: save(path, 2, 20, optimizer=None),
    lambda path: save(path, '2', 20),
    lambda path: save(path, 2, -1),
    lambda path: save(path, 2, 20, payload=Payload()),
])
def test_what_cannot_be_resumed_is_skipped(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / 'epoch_2.pth')
    save(tmp_path / 'epoch_1.pth', 1, 10)
    assert not is_whole(tmp_path / 'epoch_2.pth')
    assert find_checkpoint(tmp_path) == tmp_path / 'epoch_1.pth'
    assert not (tmp_path / 'ran').exists()


def test_only_damaged_checkpoints_are_no_reason_to_start_over(tmp_path):
    assert find_checkpoint(tmp_path) is None
    for name in ('epoch_1.pth', 'interrupted.pth'):
        (tmp_path / name).write_bytes(b'damaged')
    with pytest.raises(CheckpointError, match=r'is complete: epoch_1.pth, interrupted.pth. Move'):
        find_checkpoint(tmp_path)


def test_a_checkpoint_hook_with_its_own_directory(tmp_path):
    cfg = Config(dict(work_dir=f'{tmp_path}/run/', default_hooks=dict(
        checkpoint=dict(type='CheckpointHook', out_dir=f'{tmp_path}/saved'))))
    work_dir, saved = tmp_path / 'run', tmp_path / 'saved' / 'run'
    assert run_directories(cfg.work_dir, cfg) == [work_dir, saved]
    for folder in (work_dir, saved):
        folder.mkdir(parents=True)
    shutil.move(save(tmp_path / 'epoch_3.pth', 3, 30), saved)
    assert find_checkpoint(*run_directories(cfg.work_dir, cfg)) == saved / 'epoch_3.pth'
    save(work_dir / 'interrupted.pth', 3, 34)
    assert find_checkpoint(*run_directories(cfg.work_dir, cfg)) == work_dir / 'interrupted.pth'
    cfg.default_hooks.checkpoint.out_dir = 's3://bucket'
    assert run_directories(cfg.work_dir, cfg) == [work_dir]
