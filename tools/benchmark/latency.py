"""Measure the latency of networks in PyTorch, ONNX Runtime, OpenVINO and ncnn.

    python tools/benchmark/latency.py --out docs/latency                  # everything, one thread
    python tools/benchmark/latency.py --nets 'mobileone_s?' resnet18 --threads 2
    python tools/benchmark/latency.py --nets detectors --backends onnxruntime --batch 4 --size 512

Each network gets a short turn in every round, so other load on the machine affects all of them.
After Ctrl-C, the files hold what was measured. tools/benchmark/report.py makes tables and pictures.
"""

import argparse
import logging
import os
import shlex
import signal
import sys
import warnings
from pathlib import Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/latency'),
                        help='folder for latency.json and latency.csv (default: %(default)s)')
    parser.add_argument('--nets', nargs='+', metavar='NET',
                        help='families, names or patterns of names, see --list (default: every '
                             'family whose library is installed)')
    parser.add_argument('--backends', nargs='+',
                        default=['torch', 'onnxruntime', 'openvino', 'ncnn'],
                        help='also litert and executorch (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--size', type=int, help='pixels; default: 224, 320 (detectors), '
                                                 '512 (segmentors)')
    parser.add_argument('--rounds', type=int, default=10,
                        help='segmentors take a third of them (default: %(default)s)')
    parser.add_argument('--turn-ms', type=float, default=50, help='length of a turn in a round')
    parser.add_argument('--roofline', nargs='*', metavar='NET',
                        help='networks to profile layer by layer; no name for none')
    parser.add_argument('--list', action='store_true', help='list the networks')
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # background jobs of a shell ignore SIGINT
        signal.signal(number, signal.default_int_handler)
    # Libraries read these at import.
    os.environ['OMP_NUM_THREADS'] = os.environ['MKL_NUM_THREADS'] = str(args.threads)
    warnings.simplefilter('ignore')
    from mobileone_mm.commands.main import main as run
    return run(lambda _: measure(args), ValueError, ModuleNotFoundError)


def measure(args: argparse.Namespace) -> int:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from mobileone_mm.benchmark.latency import networks, study
    if args.list:
        for network in networks.NETWORKS.values():
            print(f'{network.family:12} {network.name:32} {network.label}')
        return 0
    logging.disable(logging.WARNING)
    settings = study.Settings(
        nets=tuple(args.nets or networks.default_families()), backends=tuple(args.backends),
        threads=args.threads, batch=args.batch, size=args.size, rounds=args.rounds,
        turn_ms=args.turn_ms,
        roofline=study.ROOFLINE if args.roofline is None else tuple(args.roofline))
    command = f'python {shlex.join(sys.argv)}'
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn('turns'), TimeElapsedColumn(),
               TextColumn('{task.description}'))
    try:
        with Progress(*columns) as bar:
            task = bar.add_task('')
            results = study.run(settings, args.out, command, lambda done, total, text: bar.update(
                task, completed=done, total=total, description=text))
    except KeyboardInterrupt:
        print(f'\ninterrupted; so far: {args.out}/latency.json')
        return 130
    for name, reason in results.skipped.items():
        print(f'not measured: {name}: {reason}')
    for row in results.rows:
        print(f'{row.network:32} {row.backend:12} {row.median_ms:9.2f} ms, min {row.min_ms:.2f}, '
              f'10 to 90 %: {row.p10_ms:.2f} to {row.p90_ms:.2f}, {row.samples} runs')
    print(f'{args.out}/latency.json, latency.csv; pictures: '
          f'python tools/benchmark/report.py {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
