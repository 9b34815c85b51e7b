"""Train a detector or a segmentor.

    python tools/train.py configs/detection/ssdlite_mobileone_s0_coco.py --resume
"""

import sys

from mobileone_mm.commands.train_test import main, train

if __name__ == '__main__':
    sys.exit(main(train))
