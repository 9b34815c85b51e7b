"""mmengine's TensorBoard backend, chosen on the command line: what TensorBoard reads back."""

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('tensorboard', reason='tensorboard is not installed')
from tiny_detector import run, write_config  # noqa: E402


def test_loss_and_lr_of_every_iteration(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    backends = {'visualizer.vis_backends.0.type': 'TensorboardVisBackend'}
    assert run(write_config(tmp_path, num_train=4), tmp_path / 'out', **backends) == 0
    folder, = (tmp_path / 'out').glob('*/vis_data')
    events = EventAccumulator(str(folder)).Reload()
    curves = {name: [(event.step, event.value) for event in events.Scalars(name)]
              for name in ('loss', 'lr')}
    assert [step for step, _ in curves['loss']] == [1, 2, 3, 4]
    assert all(0 < loss < 100 for _, loss in curves['loss'])
    # the linear warm-up of the config, from a tenth
    assert [step for step, _ in curves['lr']] == [1, 2, 3, 4]
    rates = [rate for _, rate in curves['lr']]
    assert rates == sorted(rates) and rates[0] < rates[-1]
