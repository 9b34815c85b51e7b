"""Your own images and masks: a config is written, trained, tested and used."""

import numpy as np
import pytest
from mmengine.config import Config
from paths import ROOT
from PIL import Image

from mobileone_mm.commands.train_test import test as run_test
from mobileone_mm.commands.train_test import train as run_train

SegLocalVisualizer = pytest.importorskip('mmseg.visualization').SegLocalVisualizer

# A program, a shell, Python and mmengine's configs might take this for more than a name.
NAME = '"""\'\\U0001 {{ fileDirname }} {{_base_.model}} {{$HOME:x}}\'); raise SystemExit(9) #'


@pytest.fixture
def drawn(tmp_path):
    """6 images of one bright square; their masks are black and white JPEG files."""
    (tmp_path / 'pictures').mkdir()
    (tmp_path / 'masks').mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        mask = np.zeros((64, 64), np.uint8)
        x, y = rng.integers(0, 32, 2)
        mask[y:y + 32, x:x + 32] = 255
        noise = rng.integers(0, 40, (64, 64, 3))
        Image.fromarray((mask[..., None] // 2 + noise).astype(np.uint8)).save(
            tmp_path / f'pictures/{i}.JPG')
        Image.fromarray(mask).save(tmp_path / f'masks/{i}_mask.jpg')
    return tmp_path


@pytest.fixture
def custom_seg(drawn, run_tool):
    """A function that runs tools/custom_seg.py on these and returns its exit status."""
    def run(*arguments):
        return run_tool('custom_seg', '--images', drawn / 'pictures', '--masks', drawn / 'masks',
                        '--out', drawn / 'configs/own.py', '--base',
                        'deeplabv3_mobileone_s0_voc12aug', '--batch-size', 2, *arguments)
    return run


def test_write_train_test_predict(drawn, custom_seg, run_tool, capsys):
    names = drawn / 'names.txt'
    names.write_text(NAME)
    assert custom_seg('--classes', names, '--val-share', .34, '--epochs', 6, '--workers', 0,
                      '--from-scratch', '--class-weights') == 0
    printed = capsys.readouterr().out
    assert 'train: 4 images; pixels: background 7' in printed and 'black and white' in printed
    cfg = Config.fromfile(drawn / 'configs/own.py')
    assert cfg.train_dataloader.dataset.metainfo.classes == ('background', NAME)
    assert cfg.crop_size == (64, 64)  # that of the images
    work = drawn / 'work'
    # As an earlier run in this process leaves it, which must not receive this run's curves.
    SegLocalVisualizer.get_instance('visualizer', save_dir=str(drawn / 'earlier'),
                                    vis_backends=[dict(type='LocalVisBackend')])
    run_train([str(drawn / 'configs/own.py'), '--work-dir', str(work), '--cfg-options',
               'model.backbone.num_conv_branches=1', 'model.decode_head.channels=32',
               'train_cfg.val_interval=6', 'default_hooks.logger.interval=1'])
    deployed = work / 'epoch_6_deploy.pth'
    assert (work / 'train_images.png').is_file() and (work / 'learning_curve.png').is_file()
    metrics = run_test([str(deployed.with_suffix('.py')), str(deployed), '--work-dir', str(work),
                        '--report', str(drawn / 'report')])
    assert {path.name for path in (drawn / 'report').iterdir()} == {
        'confusion_matrix.png', 'worst.json', 'worst.png'}
    assert 0 <= metrics['mIoU'] <= 100 and not np.isnan(metrics['mIoU'])  # of both classes
    assert run_tool('predict', deployed, drawn / 'pictures', '--out', drawn / 'out') == 0
    assert len(list((drawn / 'out').iterdir())) == 6


def test_config_follows_the_options(drawn, custom_seg):
    assert custom_seg('--input-size', 96, '--slide', '--epochs', 30, '--workers', 3) == 0
    cfg = Config.fromfile(drawn / 'configs/own.py')
    base = Config.fromfile(ROOT / 'configs/segmentation/deeplabv3_mobileone_s0_voc12aug.py')
    assert cfg.model.backbone == base.model.backbone  # with the weights for ImageNet
    assert cfg.model.test_cfg == dict(mode='slide', crop_size=(96, 96), stride=(64, 64))
    assert cfg.model.data_preprocessor.size == cfg.train_pipeline[3].crop_size == (96, 96)
    assert [step.type for step in cfg.test_pipeline] == [
        'LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs']  # at the images' own size
    assert cfg.train_dataloader.num_workers == cfg.val_dataloader.num_workers == 3
    assert cfg.auto_scale_lr.base_batch_size == cfg.train_dataloader.batch_size == 2
    assert cfg.param_scheduler[0].end == 6  # a tenth of 30 epochs of 2 iterations
    assert custom_seg('--batch-size', 16, '--epochs', 3) == 0  # 5 images to train on
    cfg = Config.fromfile(drawn / 'configs/own.py')
    assert cfg.train_dataloader.dataset.type == 'RepeatDataset'
    assert cfg.train_dataloader.dataset.times == 4


@pytest.mark.parametrize('arguments, expected', [
    (('--batch-size', 1), 'at least 2 images'), (('--epochs', 0), '--epochs 0'),
    (('--input-size', 8), '--input-size 8'), (('--workers', -1), '--workers -1'),
    (('--base', 's1'), 'expected one of deeplabv3'), (('--out', 'own.txt'), 'ends with .py'),
    (('--val-images', 'x'), 'need each other'), (('--ignore', 'red'), "'red' is neither"),
    (('--val-share', 2), 'between 0 and 1'), (('--classes', 'none.txt'), 'no such file'),
    (('--images', 'nowhere'), 'no such folder'),
])
def test_bad_options_are_one_line(drawn, custom_seg, capsys, arguments, expected):
    assert custom_seg(*arguments) == 1
    error = capsys.readouterr().err
    assert expected in error and error.count('\n') == 1
    assert not (drawn / 'configs').exists()


def test_a_folder_in_the_way_is_left_alone(drawn, custom_seg, capsys):
    mine = drawn / 'configs/own_data/masks/mine.txt'
    mine.parent.mkdir(parents=True)
    mine.write_text('mine')
    assert custom_seg() == 1 and 'is in the way' in capsys.readouterr().err
    assert list(mine.parent.iterdir()) == [mine]
