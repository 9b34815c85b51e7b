"""Time 8-bit and float32 networks alternately, in one process and on one thread.

    python tools/benchmark/int8.py --nets ssdlite_mobileone_s1 --baseline ssdlite_mobilenet_v2
    python tools/benchmark/int8.py --nets deeplabv3_mobileone_s1 --baseline deeplabv3_mobilenet_v2

The networks run from the image to the boxes or the label map. They have random weights and are
quantized like in tools/quantize.py, the baseline too. OpenVINO needs nncf (extra: int8). Times are
CPU times, so other load on the machine hardly counts.
"""

import argparse
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Callable, Dict, Tuple

Row = Tuple[str, str, str]  # network, backend, layers in float32


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--nets', nargs='+', default=['ssdlite_mobileone_s1'],
                        help='networks to time in int8 and float32 (default: '
                        'ssdlite_mobileone_s1)')
    parser.add_argument('--baseline', default='ssdlite_mobilenet_v2',
                        help='network to compare with (default: %(default)s)')
    parser.add_argument('--keep', nargs='+', default=['first'], metavar='LAYERS',
                        help='layers to keep in float32, as in tools/quantize.py, joined by +; '
                        'one row for each argument (default: first)')
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
    from mobileone_mm.utils.timing import processor_ms
    with tempfile.TemporaryDirectory() as folder:
        samples = processor_ms(prepare(args, Path(folder)), args.rounds)
    print(vnni())
    medians = {name: summarize(turns).median for name, turns in samples.items()}
    print('| network | backend | layers in float32 | ms | 10 to 90 % | of the baseline | '
          'of its own float32 |')
    print('|--|--|--|--|--|--|--|')
    for (name, backend, keep), turns in samples.items():
        summary = summarize(turns)
        ratios = [summary.median / medians[other, backend, 'all'] for other in
                  (args.baseline, name)]
        print(f'| {name} | {backend} | {keep} | {summary.median:.2f} | {summary.p10:.2f} to '
              f'{summary.p90:.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} |')


def prepare(args: argparse.Namespace, folder: Path) -> Dict[Row, Callable[[], object]]:
    """A warm call for each network, backend and choice of layers."""
    from mobileone_mm.benchmark.latency.backends import Preparer, check_backends
    from mobileone_mm.benchmark.latency.networks import select
    from mobileone_mm.export.int8.quantizers import require_quantizer
    check_backends(args.backends)
    for backend in args.backends:
        require_quantizer(dict(onnxruntime='onnx').get(backend, backend))
    networks = [select([name])[0] for name in dict.fromkeys((args.baseline, *args.nets))]
    calls = {}
    for network in networks:
        preparer = Preparer(network, folder)
        for backend in args.backends:
            calls[network.name, backend, 'all'] = preparer.call(backend)
            for index, keep in enumerate(args.keep):
                calls[network.name, backend, keep] = quantized(preparer, backend, keep, index)
    for call in calls.values():
        call()
    return calls


def quantized(preparer, backend: str, keep: str, index: int) -> Callable[[], object]:
    """A call of the network in 8 bits; the ranges come from its one image."""
    from mobileone_mm.export.int8.int8_onnx import graph_nodes, quantize_onnx
    from mobileone_mm.export.int8.int8_openvino import quantize_openvino
    from mobileone_mm.export.int8.layers import kept_layers
    from mobileone_mm.export.running.runtimes import load_runtime
    source, image = preparer.onnx(backend, in_8_bits=True), preparer.image.numpy()
    quantize, suffix = dict(onnxruntime=(quantize_onnx, '.onnx'),
                            openvino=(quantize_openvino, '.xml'))[backend]
    target = quantize(source, source.with_name(f'{source.stem}_{index}{suffix}'), [image],
                      kept_layers(graph_nodes(source), keep.split('+')))
    runtime = load_runtime(backend, target, threads=1)
    return lambda: runtime(image)


def vnni() -> str:
    """Whether the processor has VNNI, the 8-bit multiplications that make int8 pay off."""
    info = Path('/proc/cpuinfo')
    if not info.exists():
        return 'VNNI: not known on this system'
    return f'VNNI: {"yes" if "_vnni" in info.read_text() else "no"}'


if __name__ == '__main__':
    sys.exit(main())
