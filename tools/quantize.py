"""Quantize a trained model to 8 bits for one of four runtimes.

    python tools/quantize.py CONFIG CHECKPOINT --backend onnx --out DIR --evaluate
"""

import argparse
import sys

from command_line import arguments, run

BACKENDS = ('onnx', 'openvino', 'litert', 'executorch')


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='the config of the checkpoint')
    parser.add_argument('checkpoint', help='trained or folded weights')
    parser.add_argument('--backend', required=True, choices=BACKENDS)
    parser.add_argument('--out', required=True, help='directory for the quantized model')
    parser.add_argument('--images', type=int, default=64,
                        help='number of validation images for the ranges of activations')
    parser.add_argument('--no-equalize', dest='equalize', action='store_false',
                        help='skip cross-layer equalization')
    parser.add_argument('--keep', nargs='+', default=['first'], metavar='LAYER',
                        help='layers to keep in float32: first, last, none, or names of '
                        'convolutions from the table of their noise (default: first)')
    parser.add_argument('--per-tensor', dest='per_channel', action='store_false',
                        help='onnx: use one scale for a whole kernel')
    parser.add_argument('--reduce-range', action='store_true',
                        help='onnx: use weights of 7 bits, for x86 without VNNI')
    parser.add_argument('--dynamic', nargs='+', default=[], metavar='AXIS',
                        help='axes to leave open: batch, size, or both')
    parser.add_argument('--evaluate', action='store_true',
                        help='test the checkpoint and the result on the test set')
    arguments().add_cfg_options(parser)
    return parser


def quantize(args: argparse.Namespace) -> None:
    from mobileone_mm.export.int8.quantize import quantize_model
    options = dict(vars(args))
    del options['debug']
    evaluate = options.pop('evaluate')
    result = quantize_model(**options)
    print(result)
    if evaluate:
        print_metrics(options, result.path)


def print_metrics(options: dict, path: str) -> None:
    """Print the metrics of the checkpoint and the quantized model side by side."""
    from mobileone_mm.commands.train_test import test
    changes = options['cfg_options'] or []
    arguments = ['--work-dir', options['out'], *(['--cfg-options', *changes] if changes else [])]
    before, after = (test([options['config'], str(model), *arguments])
                     for model in (options['checkpoint'], path))
    for name, value in before.items():
        print(f'{name}: float32 {value:.4f}, int8 {after[name]:.4f}')


if __name__ == '__main__':
    sys.exit(run(make_parser(), quantize))
