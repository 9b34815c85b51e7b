"""Fold a trained model, export it to a runtime, and check that predictions stay the same.

    python tools/deploy.py CONFIG CHECKPOINT --backend onnxruntime --image IMG --out DIR
    python tools/deploy.py CONFIG CHECKPOINT --backend all --evaluate --image IMG --out DIR
"""

import argparse
import sys

from command_line import arguments, run

BACKENDS = ('onnx', 'openvino', 'onnxruntime', 'tensorrt', 'ncnn', 'litert', 'executorch', 'coreml')
FORMS = ('react-native', )


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='the config of the checkpoint')
    parser.add_argument('checkpoint', help='trained or folded weights')
    parser.add_argument('--backend', required=True, choices=(*BACKENDS, 'all'),
                        help='all: every installed backend, with a table to compare them')
    parser.add_argument('--image', required=True,
                        help='a picture, for the example input and the comparison')
    parser.add_argument('--out', required=True, help='directory for the exported model')
    parser.add_argument('--half', action='store_true', help='float16')
    parser.add_argument('--dynamic', nargs='+', default=[], metavar='AXIS',
                        help='axes to leave open: batch, size, or both')
    parser.add_argument('--batch-size', type=int, default=1,
                        help='batch size of the traced input')
    parser.add_argument('--verify', metavar='DIR',
                        help='also compare all pictures in a directory')
    parser.add_argument('--form', choices=FORMS, default='',
                        help="executorch: a detector's outputs in the form that "
                             "react-native-executorch's useObjectDetection expects")
    parser.add_argument('--evaluate', action='store_true',
                        help='with --backend all: test checkpoint and files on the test set')
    arguments().add_cfg_options(parser)
    return parser


def deploy(args: argparse.Namespace) -> int:
    from mobileone_mm.export import ExportError
    options = dict(vars(args))
    del options['debug']
    if args.backend != 'all':
        if options.pop('evaluate'):
            raise ExportError('--evaluate needs --backend all; to test one file, use '
                              'tools/test.py')
        from mobileone_mm.export.pipeline import export_model
        print(export_model(**options))
        return 0
    from mobileone_mm.commands.deploy_all import deploy_all, table
    del options['backend']
    rows = deploy_all(**options, report=lambda text: print(text, file=sys.stderr))
    print(table(rows))
    return int(any(row.failed for row in rows))


if __name__ == '__main__':
    sys.exit(run(make_parser(), deploy))
