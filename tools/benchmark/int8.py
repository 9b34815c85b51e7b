"""Time a detector in 8 bits beside a float32 one, in turns, in one process, on one thread.

    python tools/benchmark/int8.py --net ssdlite_mobileone_s1 --baseline ssdlite_mobilenet_v2

Weights are random, from the image to the boxes, and quantized by what tools/quantize.py quantizes
with: the end layers stay float32. OpenVINO needs nncf, of the extra int8. Times are the
processor's, so that what else the machine does hardly counts.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Callable, Dict


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--net', default='ssdlite_mobileone_s1',
                        help='in 8 bits and in float32 (default: %(default)s)')
    parser.add_argument('--baseline', default='ssdlite_mobilenet_v2',
                        help='in float32 (default: %(default)s)')
    parser.add_argument('--backends', nargs='+', default=['onnxruntime', 'openvino'],
                        choices=['onnxruntime', 'openvino'])
    parser.add_argument('--rounds', type=int, default=50)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    os.environ['OMP_NUM_THREADS'] = '1'  # read at import
    warnings.simplefilter('ignore')
    logging.disable(logging.WARNING)
    from mobileone_mm.commands.main import main as run
    return run(lambda _: measure(args), ValueError)


def measure(args: argparse.Namespace) -> None:
    from mobileone_mm.benchmark.latency.timing import summarize
    with tempfile.TemporaryDirectory() as folder:
        calls = prepare(args, Path(folder))
        samples = {name: [] for name in calls}
        for _ in range(args.rounds):
            for name, call in calls.items():
                start = time.process_time()
                call()
                samples[name].append(1e3 * (time.process_time() - start))
    print(vnni())
    for name, turns in samples.items():
        summary = summarize(turns)
        baseline = f'{args.baseline}, {name.split(", ")[1]}'
        ratio = summary.median / summarize(samples[baseline]).median
        print(f'{name:42} {summary.median:7.2f} ms, 10 to 90 %: {summary.p10:.2f} to '
              f'{summary.p90:.2f}, {ratio:.2f} times the baseline, {summary.samples} runs')


def prepare(args: argparse.Namespace, folder: Path) -> Dict[str, Callable[[], object]]:
    """A warm call for each network, backend and precision."""
    from mobileone_mm.benchmark.latency.backends import Preparer, check_backends
    from mobileone_mm.benchmark.latency.networks import select
    check_backends(args.backends)
    calls = {}
    for name in (args.baseline, args.net):
        preparer = Preparer(select([name])[0], folder)
        for backend in args.backends:
            calls[f'{name}, {backend}'] = preparer.call(backend)
            if name == args.net:
                calls[f'{name}, {backend}, int8'] = quantized(preparer, backend)
    for call in calls.values():
        call()
    return calls


def quantized(preparer, backend: str) -> Callable[[], object]:
    """A call of the network in 8 bits; ranges come of its one image."""
    from mobileone_mm.export.int8.int8_onnx import first_and_last, quantize_onnx
    from mobileone_mm.export.int8.int8_openvino import quantize_openvino
    from mobileone_mm.export.running.runtimes import load_runtime
    source, image = preparer.onnx(backend), preparer.image.numpy()
    quantize, suffix = dict(onnxruntime=(quantize_onnx, '.onnx'),
                            openvino=(quantize_openvino, '.xml'))[backend]
    target = quantize(source, source.with_name(f'{source.stem}_int8{suffix}'), [image],
                      first_and_last(source))
    runtime = load_runtime(backend, target, threads=1)
    return lambda: runtime(image)


def vnni() -> str:
    """Whether the processor multiplies 8-bit integers in one step; 8 bits pay off where it does."""
    info = Path('/proc/cpuinfo')
    if not info.exists():
        return 'VNNI: not known on this system'
    return f'VNNI: {"yes" if "_vnni" in info.read_text() else "no"}'


if __name__ == '__main__':
    sys.exit(main())
