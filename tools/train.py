"""Train a detector or a segmentor.

    python tools/train.py configs/detection/ssdlite_mobileone_s0_coco.py --resume
"""

import sys
from argparse import Namespace

from command_line import arguments, run


def train(args: Namespace) -> None:
    from mobileone_mm.commands.train_test import train
    train(args)


if __name__ == '__main__':
    sys.exit(run(arguments().train_parser(), train))
