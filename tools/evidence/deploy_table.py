"""The table backend x (parity, size, latency) of a trained model, in Markdown.

    python tools/evidence/deploy_table.py CONFIG CHECKPOINT --image IMG --verify DIR --out DIR
"""

import argparse

from mobileone_mm.export import FORMATS, ExportError
from mobileone_mm.export.pipeline import export_model


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ('config', 'checkpoint'):
        parser.add_argument(name)
    for name in ('image', 'out'):
        parser.add_argument(f'--{name}', required=True)
    parser.add_argument('--verify')
    parser.add_argument('--backends', nargs='+', default=list(FORMATS))
    parser.add_argument('--precisions', nargs='+', default=['fp32', 'fp16'])
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    print('| backend | precision | parity | bytes | ms |\n|--|--|--|--|--|')
    for backend in args.backends:
        for precision in args.precisions:
            print(f'| {backend} | {precision} | {row(args, backend, precision)} |', flush=True)


def row(args: argparse.Namespace, backend: str, precision: str) -> str:
    try:
        result = export_model(
            args.config, args.checkpoint, backend, args.image, f'{args.out}/{precision}',
            half=precision == 'fp16', verify=args.verify)
    except ExportError as error:
        return f'{error} | | '
    latency = '' if result.latency_ms is None else f'{result.latency_ms:.1f}'
    return f'{result.parity or "not run here"} | {result.bytes:,} | {latency}'


if __name__ == '__main__':
    main()
