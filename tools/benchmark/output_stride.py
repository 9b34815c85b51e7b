"""Count the multiply-adds of DeepLabV3 at output stride 8, 16 and 32.

    python tools/benchmark/output_stride.py configs/segmentation/deeplabv3_mobileone_s1_voc12aug.py

This counts the folded network on torch's meta device, which takes no time.
"""

import argparse
import sys

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mobileone_mm import segmentation  # noqa: F401  (registers what the configs name)
from mobileone_mm.commands.main import main as run


def count_macs(module: nn.Module, *inputs: object) -> float:
    """Multiply-adds, in units of 10^9, of one forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return counter.get_total_flops() / 2e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('--size', type=int, default=512, help='side of the square image')
    args = parser.parse_args()
    cfg = Config.fromfile(args.config)
    cfg.model.backbone.update(init_cfg=None, deploy=True)
    init_default_scope('mmseg')
    print('output stride | last map | backbone GMAC | ASPP head GMAC | together | against 16')
    rows = {}
    for stride in (16, 8, 32):
        cfg.model.backbone.output_stride = stride
        with torch.device('meta'):
            model = MODELS.build(cfg.model).eval()
            image = torch.empty(1, 3, args.size, args.size)
            features = model.backbone(image)
            backbone = count_macs(model.backbone, image)
            head = count_macs(model.decode_head, features)
        rows[stride] = (features[-1].shape[-1], backbone, head, backbone + head)
    for stride in (8, 16, 32):
        size, *macs = rows[stride]
        print(f'{stride:13} | {size:4}x{size:<3} | {macs[0]:13.2f} | {macs[1]:14.2f} | '
              f'{macs[2]:8.2f} | {macs[2] / rows[16][3]:.2f}')


if __name__ == '__main__':
    sys.exit(run(lambda _: main()))
