"""The arguments of tools/train.py and tools/test.py.

Nothing here imports more than Python's own modules: the tools read this file before they import
the package, which takes seconds.
"""

import argparse

__all__ = ['add_cfg_options', 'test_parser', 'train_parser']


def train_parser() -> argparse.ArgumentParser:
    """Of tools/train.py."""
    parser = _parser('Train a detector, a segmentor or a classifier')
    parser.add_argument('--amp', action='store_true',
                        help='mixed precision: float16 on GPUs, bfloat16 on CPUs')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale lr by batch size / auto_scale_lr.base_batch_size')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='continue from a checkpoint, by default the last whole one in the '
                             'work directory')
    return parser


def test_parser() -> argparse.ArgumentParser:
    """Of tools/test.py."""
    parser = _parser('Test a detector, a segmentor or a classifier')
    parser.add_argument('checkpoint', help='checkpoint, or a file that tools/deploy.py exported')
    parser.add_argument('--out', help='keep the predictions: in this .pkl file, of '
                                      'segmentation as images in this directory')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='directory for images of the predictions; detection '
                                           'puts it into WORK_DIR/TIMESTAMP')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds between images')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument('--report', metavar='DIR',
                        help='pictures: confusion matrix, worst images and, of detection, '
                             "precision over recall; and each class's AP in the log")
    parser.add_argument('--worst', type=int, default=16, help='images that --report shows')
    parser.add_argument('--resize', metavar='WxH',
                        help='resize images to this size, whatever their aspect ratio')
    return parser


def add_cfg_options(parser: argparse.ArgumentParser, more: str = '') -> None:
    """Add ``--cfg-options``, a list of ``KEY=VALUE``."""
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help=f'override settings of the config{more}')


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='for logs and checkpoints; work_dirs/CONFIG by default')
    add_cfg_options(parser, "; data_root=DIR moves every path below the config's data_root")
    parser.add_argument('--verbose', action='store_true',
                        help='also print to the console what otherwise only the log file gets')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes it; torchrun sets LOCAL_RANK instead
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help=argparse.SUPPRESS)
    return parser
