"""Measure time, saved bytes and peak memory of a backbone's training step."""

import statistics
import subprocess
import sys
import time
from typing import Any, Dict, List, Sequence

import torch
from torch import Tensor, nn

from ...backbones import MobileOne, MobileOneBlock

__all__ = ['build', 'format_row', 'format_titles', 'measure', 'peak_memory', 'saved_bytes']

OTHERS = ('timm', 'mmpretrain')


def build(arch: str, net: str) -> nn.Module:
    """Build a backbone in train mode whose forward returns its last map.

    Args:
        arch: ``'s0'`` ... ``'s4'``.
        net: ``'plain'`` for one conv + BN per block, the name of a branch engine, or ``'timm'`` or
            ``'mmpretrain'`` for their blocks.

    Raises:
        ImportError: That library is not installed or cannot be imported.
        ValueError: ``net`` is unknown.
    """
    torch.manual_seed(0)
    if net == 'timm':
        import timm
        return _Last(timm.create_model(f'mobileone_{arch}', features_only=True)).train()
    if net == 'mmpretrain':
        from mmpretrain.models.backbones import MobileOne as Other
        return _Last(Other(arch)).train()
    model = MobileOne(arch, branch_engine='textbook' if net == 'plain' else net)
    if net == 'plain':
        for block in model.modules():
            if isinstance(block, MobileOneBlock):
                del block.rbr_conv[1:]
                block.rbr_scale = block.rbr_skip = None
                if isinstance(block.activation, nn.ReLU):
                    block.activation.inplace = True
    return _Last(model).train()


class _Last(nn.Module):
    """The last of the maps that a backbone returns."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[-1]


def saved_bytes(net: nn.Module, x: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass, except for parameters and x."""
    held = {t.untyped_storage().data_ptr() for t in (x, *net.parameters())}
    kept: Dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # an output itself would keep its whole graph alive

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = net(x)
    total = sum(kept.values())
    del y
    return total


def _in_format(net: nn.Module, layout: torch.memory_format) -> nn.Module:
    options: Any = dict(memory_format=layout)  # torch's hints lack it
    return net.to(**options)


def _step(net: nn.Module, x: Tensor, wall: bool = False) -> float:
    """Seconds of a forward and, in train mode, a backward pass: CPU time or ``wall`` time."""
    clock = time.perf_counter if wall else time.process_time
    net.zero_grad(set_to_none=True)
    start = clock()
    with torch.set_grad_enabled(net.training):
        y = net(x)
    if net.training:
        y.backward(torch.ones_like(y))
    return clock() - start


def measure(arch: str, nets: Sequence[str], *, batch_size: int = 8, image_size: int = 224,
            threads: int = 1, rounds: int = 7, channels_last: bool = False,
            training: bool = True, wall: bool = False) -> Dict[str, Dict[str, float]]:
    """Measure nets alternately in this process; ratios are relative to the first.

    Libraries that are not installed are left out. Without ``training``, the forward pass in eval
    mode is timed, with unfolded branches. Times are CPU times of all threads together, which other
    programs disturb least, or ``wall`` times.

    Returns:
        For each net by name, ``ms`` (median over the rounds), ``ratio`` (median over the rounds of
        the ratio to the first net in the same round), ``saved_mb`` and ``saved_ratio``.
    """
    torch.set_num_threads(threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(batch_size, 3, image_size, image_size).to(memory_format=layout)
    built = {}
    for name in nets:
        try:
            built[name] = _in_format(build(arch, name), layout).train(training)
        except (ImportError, RuntimeError):
            if name not in OTHERS:
                raise
    saved = {name: saved_bytes(net, x) / 1e6 for name, net in built.items()}
    times: Dict[str, List[float]] = {name: [] for name in built}
    for net in built.values():
        _step(net, x)
    for _ in range(rounds):
        for name, net in built.items():
            times[name].append(_step(net, x, wall))
    first = next(iter(built))
    return {
        name: dict(ms=1e3 * statistics.median(times[name]),
                   ratio=statistics.median(t / f for t, f in zip(times[name], times[first])),
                   saved_mb=saved[name], saved_ratio=saved[name] / saved[first])
        for name in built}


def peak_memory(arch: str, net: str, batch_size: int, image_size: int, threads: int,
                channels_last: bool = False) -> float:
    """Peak resident memory of two steps beyond that before them, in MB, in a separate process.

    Linux only, since it reads /proc.
    """
    args = [arch, net, batch_size, image_size, threads, int(channels_last)]
    done = subprocess.run([sys.executable, '-m', __name__, *map(str, args)], check=True,
                          stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def _peak_of_this_process(arch: str, net: str, *numbers: str) -> float:
    batch_size, image_size, threads, channels_last = map(int, numbers)
    torch.set_num_threads(threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = _in_format(build(arch, net), layout)
    x = torch.randn(batch_size, 3, image_size, image_size).to(memory_format=layout)
    before = _peak_resident_kb()
    for _ in range(2):
        _step(model, x)
    return (_peak_resident_kb() - before) / 1024


def _peak_resident_kb() -> int:
    """Peak of this process alone; getrusage includes the process that started it."""
    with open('/proc/self/status') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmHWM'))


def format_titles(nets: Sequence[str], clock: str, with_peak: bool) -> str:
    """The first two lines of a Markdown table whose lines :func:`format_row` makes."""
    first, *others = nets
    titles = ['', 'threads', f'{first}, {clock} ms', *(f'{net}, time' for net in others),
              f'{first}, saved MB', *(f'{net}, memory' for net in others),
              *(f'{net}, peak MB' for net in nets if with_peak)]
    return '| ' + ' | '.join(titles) + ' |\n|' + '--|' * len(titles)


def format_row(arch: str, threads: int, nets: Sequence[str],
               measured: Dict[str, Dict[str, float]], with_peak: bool) -> str:
    """A variant's line; '-' for libraries that are not installed."""
    first, *others = nets
    columns = [('ms', 0, [first]), ('ratio', 2, others), ('saved_mb', 0, [first]),
               ('saved_ratio', 2, others), ('peak_mb', 0, nets if with_peak else [])]
    cells = [f'{measured[net][key]:.{digits}f}' if net in measured else '-'
             for key, digits, names in columns for net in names]
    return '| ' + ' | '.join([arch.upper(), str(threads), *cells]) + ' |'


if __name__ == '__main__':
    print(_peak_of_this_process(*sys.argv[1:]))
