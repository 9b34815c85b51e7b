"""Two processes stop together, and save what both have learned."""

import multiprocessing
import re
import signal
import socket

import pytest
import torch
import torch.distributed as dist
from two_processes import work

pytestmark = pytest.mark.skipif(not dist.is_available() or torch.cuda.is_available(),
                                reason='trains in CPU processes that gloo connects')


def _run(folder, name, **kwargs):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=work, args=(rank, port, str(folder), name), kwargs=kwargs)
                 for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    return [process.exitcode for process in processes]


def _close(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_a_stop_of_one_process_stops_both_and_loses_nothing(tmp_path):
    assert _run(tmp_path, 'whole') == [0, 0]
    assert _run(tmp_path, 'cut', stop_at=1) == [128 + signal.SIGTERM] * 2
    saved = torch.load(tmp_path / 'cut' / 'interrupted.pth', weights_only=False)
    assert saved['meta']['iter'] == 2  # at once, not some iterations later
    averaged = {key[7:]: value for key, value in saved['ema_state_dict'].items()}
    buffers = [torch.load(tmp_path / f'buffers{rank}.pt') for rank in range(2)]
    differ = 0
    for key, value in buffers[0].items():
        mean = (value + buffers[1][key]) / 2
        for weights in (saved['state_dict'], averaged):
            torch.testing.assert_close(weights[key], mean.to(value.dtype), rtol=1e-6, atol=1e-7)
        differ += not torch.equal(value, buffers[1][key])
    assert differ == 2  # mean and variance: the processes' statistics

    assert _run(tmp_path, 'cut', resume=True) == [0, 0]
    for rank in range(2):
        whole, resumed = (torch.load(tmp_path / f'{name}{rank}.pt') for name in ('whole', 'cut'))
        _close(whole['model'], resumed['model'])
        _close(whole['ema'], resumed['ema'])
    last = torch.load(tmp_path / 'whole' / 'epoch_2.pth', weights_only=False)
    for key, value in last['ema_state_dict'].items():  # both copies hold both processes' statistics
        if 'running' in key:
            assert torch.equal(value, last['state_dict'][key[7:]]), key


def test_a_picture_that_one_process_cannot_read_ends_both_and_loses_nothing(tmp_path):
    assert _run(tmp_path, 'cut', broken=True) == [1, 1]
    done = torch.load(tmp_path / 'cut' / 'interrupted.pth', weights_only=False)['meta']['iter']
    assert done > 0
    for rank, start in enumerate((r'another process could not load a sample\.',
                                  r'cannot load sample \d+ \(\): OSError: truncated\.')):
        message = (tmp_path / f'error{rank}.txt').read_text()
        assert re.match(f'{start} The {done} iterations before are saved', message)
