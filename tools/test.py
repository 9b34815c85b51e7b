"""Evaluate a detector or a segmentor.

    python tools/test.py configs/detection/ssdlite_mobileone_s0_coco.py CHECKPOINT
"""

import sys

from mobileone_mm.commands.train_test import main, test

if __name__ == '__main__':
    sys.exit(main(test))
