"""What the training log tells: speed, time left, and memory without a GPU too."""

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
