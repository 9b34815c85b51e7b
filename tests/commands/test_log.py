"""The training log has speed, time left and, even without a GPU, memory."""

import json

import pytest
import torch

pytest.importorskip('mmdet')
from tiny_detector import run, write_config  # noqa: E402


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU it is mmengine's own")
def test_memory_on_a_cpu(tmp_path):
    pytest.importorskip('resource')
    config, work_dir = write_config(tmp_path, num_train=4), tmp_path / 'run'
    assert run(config, work_dir, **{'train_cfg.max_epochs': 1, 'log_level': 'INFO'}) == 0
    scalars, = work_dir.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    rows = [row for row in rows if 'loss' in row]
    peaks = [row['memory'] for row in rows]
    # in MB: torch alone takes a hundred, the tests' process at most some thousands
    assert len(peaks) == 2 and peaks == sorted(peaks) and 100 < peaks[0] < 32000
    assert all(row['time'] >= row['data_time'] > 0 for row in rows)
    log, = work_dir.glob('*/*.log')
    trained = [line for line in log.read_text().splitlines() if 'Epoch(train)' in line]
    assert len(trained) == 2
    for line, peak in zip(trained, peaks):
        assert f'  memory: {peak}' in line and 'eta: 0:00:0' in line


def test_the_console_is_quiet_until_the_work_begins(tmp_path, capfd):
    """The log file has the environment, the config and every parameter's settings."""
    config, work_dir = write_config(tmp_path, num_train=4), tmp_path / 'run'
    options = {'train_cfg.max_epochs': 1, 'log_level': 'INFO', 'default_hooks.logger.interval': 1}
    assert run(config, work_dir, **options) == 0
    console = capfd.readouterr().out.splitlines()
    log, = work_dir.glob('*/*.log')
    assert f'log: {log}' in console
    first = next(i for i, line in enumerate(console) if 'Epoch(train)' in line)
    assert first < 40 and not any('paramwise_options' in line for line in console)
    written = log.read_text().splitlines()
    assert sum('paramwise_options' in line for line in written) > 50
    assert next(i for i, line in enumerate(written) if 'Epoch(train)' in line) > 500
    assert run(config, work_dir, '--verbose', **options) == 0
    assert len(capfd.readouterr().out.splitlines()) > 500
