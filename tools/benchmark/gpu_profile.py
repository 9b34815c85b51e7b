"""Profile a training step on a GPU by kernel: plain net, textbook and Triton branches.

    python tools/benchmark/gpu_profile.py --arch s0 --batch-size 128 --amp --channels-last
"""

import argparse
import statistics
from typing import Callable, Dict, List

import torch
from torch.profiler import ProfilerActivity, profile

from mobileone_mm.benchmark.training.train_step import build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--arch', nargs='+', default=['s0'])
    parser.add_argument('--batch-size', type=int, nargs='+', default=[32, 128])
    parser.add_argument('--image-size', type=int, default=224)
    parser.add_argument('--nets', nargs='+', default=['plain', 'textbook', 'analytic'])
    parser.add_argument('--amp', type=int, nargs='+', default=[0, 1])
    parser.add_argument('--channels-last', type=int, nargs='+', default=[0])
    parser.add_argument('--kernels', type=int, default=0, help='print this many of the slowest')
    args = parser.parse_args()
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    for arch in args.arch:
        for batch in args.batch_size:
            for amp in args.amp:
                for last in args.channels_last:
                    case(args, arch, batch, bool(amp), bool(last))


def case(args: argparse.Namespace, arch: str, batch: int, amp: bool, last: bool) -> None:
    """Print a line per net."""
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(batch, 3, args.image_size, args.image_size, device='cuda')
    x = x.contiguous(memory_format=layout)
    base: Dict[str, float] = {}
    for name in args.nets:
        net = build(arch, name).cuda().to(memory_format=layout)

        def step() -> None:
            net.zero_grad(set_to_none=True)  # noqa: B023
            with torch.autocast('cuda', torch.float16, enabled=amp):
                y = net(x)  # noqa: B023
            y.backward(torch.ones_like(y))

        title = f'{arch} b{batch} {"amp" if amp else "float32"} {"nhwc" if last else "nchw"} {name}'
        try:
            result = measure(step, net, x, amp)
        except Exception as error:  # continue with the other nets
            print(f'{title}: {type(error).__name__}: {str(error)[:500]}', flush=True)
            continue
        base = base or result
        print(title + ': ' + ', '.join(f'{key} {value:.2f} ({value / base[key]:.2f})'
                                       for key, value in result.items()), flush=True)
        if args.kernels:
            slowest(step, args.kernels)


def measure(step: Callable[[], None], net: torch.nn.Module, x: torch.Tensor,
            amp: bool) -> Dict[str, float]:
    """Milliseconds in eager mode and in a CUDA graph, and peak MB of the activations."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    result = dict(eager_ms=timed(step))
    net.zero_grad(set_to_none=True)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.autocast('cuda', torch.float16, enabled=amp):
        y = net(x)
    result['saved_mb'] = (torch.cuda.memory_allocated() - before) / 1e6
    y.backward(torch.ones_like(y))
    result['peak_mb'] = (torch.cuda.max_memory_allocated() - before) / 1e6
    del y
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    net.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        step()
    result['graph_ms'] = timed(graph.replay)
    return result


def timed(step: Callable[[], None], rounds: int = 10) -> float:
    """Median time by CUDA events."""
    times: List[float] = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def slowest(step: Callable[[], None], count: int) -> None:
    """Print kernels by the time they take in a step."""
    with profile(activities=[ProfilerActivity.CUDA]) as record:
        step()
        torch.cuda.synchronize()
    rows = sorted(record.key_averages(), key=lambda row: -row.device_time_total)
    for row in rows[:count]:
        print(f'    {row.device_time_total / 1e3:8.3f} ms {row.count:5d} x {row.key[:90]}')
    print(f'    {sum(row.device_time_total for row in rows) / 1e3:8.3f} ms '
          f'{sum(row.count for row in rows):5d} in all', flush=True)


if __name__ == '__main__':
    main()
