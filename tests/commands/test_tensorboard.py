"""mmengine's TensorBoard backend, chosen on the command line, writes what TensorBoard reads."""

import os

import pytest
from tiny_detector import run, write_config

from mobileone_mm.commands.train_test import train
from mobileone_mm.datasets.drawn.shapes import make_shapes

pytest.importorskip('tensorboard', reason='tensorboard is not installed')
BACKEND = {'visualizer.vis_backends.0.type': 'TensorboardVisBackend'}
SEGMENTOR = 'configs/segmentation/deeplabv3_mobileone_s0_shapes.py'


def curves(work_dir):
    """The values of each curve by step, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    folder, = work_dir.glob('*/vis_data')
    events = EventAccumulator(str(folder)).Reload()
    return {name: {event.step: event.value for event in events.Scalars(name)}
            for name in events.Tags()['scalars']}


def test_a_detector(tmp_path):
    pytest.importorskip('mmdet')
    config = write_config(tmp_path, num_train=4)
    assert run(config, tmp_path / 'out', **BACKEND) == 0
    found = curves(tmp_path / 'out')
    assert list(found['loss']) == [1, 2, 3, 4]
    assert all(0 < loss < 100 for loss in found['loss'].values())
    # the linear warm-up of the config, from a tenth
    assert list(found['lr']) == [1, 2, 3, 4]
    rates = list(found['lr'].values())
    assert rates == sorted(rates) and rates[0] < rates[-1]


def test_a_segmentor(tmp_path, pytestconfig):
    pytest.importorskip('mmseg')
    data = make_shapes(tmp_path / 'data', 'voc', num_train=4, num_val=1)
    name = f'tensorboard-{os.urandom(4).hex()}'  # one message hub per name
    options = {'data_root': data, 'train_dataloader.batch_size': 2, 'train_cfg.max_epochs': 2,
               'train_cfg.val_interval': 2, 'default_hooks.logger.interval': 1,
               'model.backbone.num_conv_branches': 1,  # for four: less to compute
               'experiment_name': name, 'visualizer.name': name, **BACKEND}
    train([str(pytestconfig.rootpath / SEGMENTOR), '--work-dir', str(tmp_path / 'out'),
           '--cfg-options', *(f'{key}={value}' for key, value in options.items())])
    found = curves(tmp_path / 'out')
    for loss in ('loss', 'decode.loss_ce', 'aux.loss_ce'):
        assert list(found[loss]) == [1, 2, 3, 4]
    for step, loss in found['loss'].items():
        parts = found['decode.loss_ce'][step], found['aux.loss_ce'][step]
        assert 0 < loss < 100 and loss == pytest.approx(sum(parts), rel=1e-5)
    (step, score), = found['mIoU'].items()
    assert step == 2 and 0 <= score <= 100  # mmengine counts validations in epochs
