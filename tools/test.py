"""Evaluate a detector or a segmentor.

    python tools/test.py configs/detection/ssdlite_mobileone_s0_coco.py CHECKPOINT
"""

import sys
from argparse import Namespace

from command_line import arguments, run


def test(args: Namespace) -> None:
    from mobileone_mm.commands.train_test import test
    test(args)


if __name__ == '__main__':
    sys.exit(run(arguments().test_parser(), test))
