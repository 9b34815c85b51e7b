"""The arguments of tools/train.py and tools/test.py.

This file only imports Python's standard library: the tools read it before they import the package,
which takes seconds.
"""

import argparse

__all__ = ['add_cfg_options', 'test_parser', 'train_parser']


def train_parser() -> argparse.ArgumentParser:
    """The parser of tools/train.py."""
    parser = _parser('Train a detector, a segmentor or a classifier')
    parser.add_argument('--amp', action='store_true',
                        help='mixed precision: float16 on GPUs, bfloat16 on CPUs')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale lr by batch size / auto_scale_lr.base_batch_size')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='continue from a checkpoint, by default the last complete one in the '
                             'work directory')
    return parser


def test_parser() -> argparse.ArgumentParser:
    """The parser of tools/test.py."""
    parser = _parser('Test a detector, a segmentor or a classifier')
    parser.add_argument('checkpoint', help='checkpoint, or a file exported by tools/deploy.py')
    parser.add_argument('--out', help='save the predictions: detection to this .pkl file, '
                                      'segmentation as images to this directory')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='directory for images of the predictions; for '
                                           'detection, below WORK_DIR/TIMESTAMP')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds between images')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument('--report', metavar='DIR',
                        help='directory for a confusion matrix, worst images and, for detection, '
                             "precision over recall; also logs each class's AP")
    parser.add_argument('--worst', type=int, default=16, help='number of worst images in --report')
    parser.add_argument('--resize', metavar='WxH',
                        help='resize images to this size, ignoring their aspect ratio')
    return parser


def add_cfg_options(parser: argparse.ArgumentParser, more: str = '') -> None:
    """Add ``--cfg-options``, a list of ``KEY=VALUE``."""
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help=f'override settings of the config{more}')


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='for logs and checkpoints (default: work_dirs/CONFIG)')
    add_cfg_options(parser, "; data_root=DIR moves every path below the config's data_root")
    parser.add_argument('--verbose', action='store_true',
                        help='print everything that goes to the log file')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes it; torchrun sets LOCAL_RANK
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help=argparse.SUPPRESS)
    return parser
