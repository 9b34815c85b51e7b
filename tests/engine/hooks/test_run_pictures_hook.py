"""Pictures of a run show its training images and logs, and change nothing."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData, PixelData

from mobileone_mm.engine import run_pictures
from mobileone_mm.engine.hooks import RunPicturesHook
from mobileone_mm.engine.run_pictures import draw_batch, draw_learning_curve, read_scalars


class Sample(SimpleNamespace):
    def __contains__(self, name):
        return name in vars(self)


def test_a_batch_with_boxes(tmp_path):
    instances = InstanceData(bboxes=torch.tensor([[8., 8, 24, 24]]), labels=torch.tensor([0]))
    images = [torch.full((3, 32, 64), 90, dtype=torch.uint8) for _ in range(3)]
    draw_batch(dict(inputs=images, data_samples=[Sample(gt_instances=instances)] * 3),
               tmp_path / 'a.png', max_images=2)
    sheet = cv2.imread(str(tmp_path / 'a.png'))
    assert sheet.shape == (256, 512, 3)  # two of the three, of 256 x 128 pixels
    drawn = (sheet != 90).any(2)[:128]
    rows, columns = np.nonzero(drawn[:, :256])
    assert abs(rows.min() - 32) <= 1 and abs(rows.max() - 96) <= 1  # 4 times as large
    assert abs(columns.min() - 32) <= 1 and abs(columns.max() - 96) <= 1


def test_a_batch_with_labels(tmp_path):
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[:, 16:] = 2
    labels[:, :, 24:] = 255
    sample = Sample(gt_sem_seg=PixelData(data=labels))
    draw_batch(dict(inputs=[torch.full((3, 32, 32), 90.)], data_samples=[sample]),
               tmp_path / 'a.png')
    sheet = cv2.imread(str(tmp_path / 'a.png')).astype(int)
    assert (sheet[:120, :180] == 90).all()  # the background
    assert np.ptp(sheet[136:, :180], axis=2).min() > 60  # tinted
    assert (np.ptp(sheet[:, 200:], axis=2) == 0).all() and (sheet[:, 200:] > 150).all()  # white


def write_log(folder, run, *entries):
    path = folder / run / 'vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(entry if isinstance(entry, str) else json.dumps(entry)
                              for entry in entries))


def test_scalars_of_a_resumed_run_continue(tmp_path):
    write_log(tmp_path, '20250101_000000', dict(lr=.1, loss=4., iter=1, step=1, time=9.),
              dict(lr=.1, loss=3., iter=2, step=2), {'coco/bbox_mAP': .1, 'time': 1., 'step': 1},
              '{"lr": 0.1, "lo')
    write_log(tmp_path, '20250101_000001', dict(lr=.2, loss=2., loss_cls=1., iter=2, step=2),
              dict(lr=.2, loss=float('nan'), iter=3, step=3))
    train, metrics = read_scalars(tmp_path)
    assert train == dict(lr={1: .1, 2: .2, 3: .2}, loss={1: 4., 2: 2.}, loss_cls={2: 1.})
    assert metrics == {'coco/bbox_mAP': {1: .1}}
    draw_learning_curve(tmp_path, tmp_path / 'curve.png')
    assert cv2.imread(str(tmp_path / 'curve.png')).std() > 1


def test_nothing_logged_nothing_drawn(tmp_path):
    draw_learning_curve(tmp_path, tmp_path / 'curve.png')
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_drawn_does_not_stop_the_run(tmp_path, monkeypatch):
    told = []
    logger = MMLogger.get_instance('pictures')
    monkeypatch.setattr(logger, 'warning', told.append)
    runner = SimpleNamespace(work_dir=str(tmp_path), logger=logger)
    hook = RunPicturesHook()
    hook.before_train_iter(runner, 0, dict(inputs='no images'))
    hook.before_train_iter(runner, 1, dict(inputs='no images'))  # tried once
    monkeypatch.setattr('mobileone_mm.engine.hooks.run_pictures_hook.draw_learning_curve',
                        lambda *_: 1 / 0)
    hook.after_train(runner)
    assert len(told) == 2 and 'train_images.png could not be drawn' in told[0]
    assert 'ZeroDivisionError' in told[1]


def test_not_every_short_epoch_is_drawn(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr('mobileone_mm.engine.hooks.run_pictures_hook.draw_learning_curve',
                        lambda *_: drawn.append(1))
    hook, runner = RunPicturesHook(), SimpleNamespace(work_dir=str(tmp_path))
    for _ in range(5):
        hook.after_val_epoch(runner)
    assert len(drawn) == 1
    hook.after_train(runner)
    assert len(drawn) == 2


def test_a_run_is_drawn_and_stays_as_it_is(tmp_path):
    pytest.importorskip('mmdet')
    from tiny_detector import losses, run, write_config
    config = write_config(tmp_path, num_train=4)
    options = {'train_cfg.max_epochs': 1, 'randomness.seed': 0, 'train_dataloader.num_workers': 0,
               'train_dataloader.persistent_workers': False}
    assert run(config, tmp_path / 'drawn', **options) == 0
    assert run(config, tmp_path / 'plain', **options, **{'default_hooks.run_pictures': None}) == 0
    assert losses(tmp_path / 'drawn') == losses(tmp_path / 'plain')
    names = {'train_images.png', 'learning_curve.png'}
    assert names <= {path.name for path in (tmp_path / 'drawn').iterdir()}
    assert not names & {path.name for path in (tmp_path / 'plain').iterdir()}
    sheet = cv2.imread(str(tmp_path / 'drawn/train_images.png'))
    assert sheet.shape == (run_pictures.TILE, 2 * run_pictures.TILE, 3)  # a batch of two
