"""Make a Markdown table of parity, size, metric and latency of a trained model by backend.

    python tools/evidence/deploy_table.py CONFIG CHECKPOINT --image IMG --verify DIR --out DIR \
        --metrics coco/bbox_mAP --cfg-options data_root=data/bccd/

Latencies are CPU times of one run on one thread, without preprocessing, measured in turns, so other
load on the machine hardly counts. Metrics are those of tools/test.py.
"""

import argparse
import sys
from typing import Dict

from mmengine.config import DictAction

from mobileone_mm.commands.deploy_all import processor_times
from mobileone_mm.commands.train_test import test
from mobileone_mm.export import FORMATS, ExportError
from mobileone_mm.export.pipeline import Exported, export_model, load_trained
from mobileone_mm.export.samples import Samples


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ('config', 'checkpoint'):
        parser.add_argument(name)
    for name in ('image', 'out'):
        parser.add_argument(f'--{name}', required=True)
    parser.add_argument('--verify')
    parser.add_argument('--backends', nargs='+', default=list(FORMATS))
    parser.add_argument('--precisions', nargs='+', default=['fp32', 'fp16'])
    parser.add_argument('--dynamic', nargs='+', default=[],
                        help='axes to leave open, if the backend supports it')
    parser.add_argument('--metrics', nargs='+', default=[],
                        help='metrics on the test set, as tools/test.py names them (default: none)')
    parser.add_argument('--rounds', type=int, default=20, help='rounds of timing')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    rows = {f'{backend} | {precision}': export(args, backend, precision)
            for backend in args.backends for precision in args.precisions}
    files = {name: result for name, result in rows.items() if isinstance(result, Exported)}
    metrics = {name: evaluate(args, str(result.path)) for name, result in files.items()
               if args.metrics and result.parity}
    times = latencies(args, files)
    print('| backend | precision | parity | ' + ' | '.join(args.metrics + ['bytes', 'ms |']))
    print('|--' * (5 + len(args.metrics)) + '|')
    if args.metrics:
        print(f'| PyTorch, unfolded | fp32 | | {evaluate(args, args.checkpoint)} | | |')
    for name, result in rows.items():
        if name not in files:
            print(f'| {name} | {result} |' + ' |' * (2 + len(args.metrics)))
            continue
        cells = [str(result.parity or 'not run here')]
        cells += [metrics.get(name, '| ' * (len(args.metrics) - 1))] if args.metrics else []
        print(f'| {name} | {" | ".join(cells)} | {result.bytes:,} | {times.get(name, "")} |')


def export(args: argparse.Namespace, backend: str, precision: str):
    """The exported file, or why there is none.

    A file with a fixed size is only compared on the image.
    """
    print(f'{backend} {precision}', file=sys.stderr)
    chosen = FORMATS[backend]
    dynamic = [axis for axis in args.dynamic if axis in chosen.dynamic]
    try:
        return export_model(
            args.config, args.checkpoint, backend, args.image, f'{args.out}/{precision}',
            half=precision == 'fp16', dynamic=dynamic, cfg_options=args.cfg_options,
            verify=args.verify if chosen.runtime and dynamic == args.dynamic else None)
    except ExportError as error:
        return str(error)


def evaluate(args: argparse.Namespace, model: str) -> str:
    """The cells with the metrics."""
    options = [f'{key}={value}' for key, value in args.cfg_options.items()]
    try:
        found = test([args.config, model, '--work-dir', args.out,
                      *(['--cfg-options', *options] if options else [])])
    except ExportError as error:  # images of another size than the file's
        print(f'{model}: {error}', file=sys.stderr)
        return ' | '.join('-' for _ in args.metrics)
    return ' | '.join(f'{found[name]:.4f}' for name in args.metrics)


def latencies(args: argparse.Namespace, files: Dict[str, Exported]) -> Dict[str, str]:
    """Median milliseconds of the files that their own runtime can run here."""
    cfg, model = load_trained(args.config, args.checkpoint, args.cfg_options)
    image = Samples(cfg)(args.image)['inputs'][0][None].float()
    return {name: f'{ms:.1f}' for name, ms in processor_times(
        files, model, image, args.rounds).items()}


if __name__ == '__main__':
    main()
