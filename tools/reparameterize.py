"""Fold a trained checkpoint: write OUT.pth, and its config OUT.py for testing and deployment."""

import argparse
import sys
from functools import partial
from typing import Any

from command_line import run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config that the checkpoint was trained with')
    parser.add_argument(
        'checkpoint', help='a checkpoint saved by mmengine; with EMAHook, its state_dict holds the '
        'averaged weights, which are folded')
    parser.add_argument('out', help='path of the folded weights, *.pth')
    parser.add_argument(
        '--half', action='store_true', help='store float16: fold in float64, cast afterwards')
    parser.add_argument(
        '--fuse-conv-bn', action='store_true', help='also fold the batch norms of neck and head')
    parser.add_argument(
        '--verify', nargs='?', choices=['random', 'val'], const='random',
        help='compare folded and unfolded outputs, before --half, on a random image (the default) '
        'or on the first validation batch; write nothing if they differ')
    return parser


def verify(args: argparse.Namespace, cfg: Any, model: Any, folded: Any) -> None:
    import torch
    from mmengine.runner import Runner

    from mobileone_mm.folding.deployed_files import check_loads, deployed_config
    from mobileone_mm.folding.verify import MAX_SIZE, verify_folding, verify_on_batch
    check_loads(folded, deployed_config(cfg, args.fuse_conv_bn))
    if args.verify is None:
        return
    if args.verify == 'val':
        loader = dict(cfg.val_dataloader, num_workers=0, persistent_workers=False)
        difference = verify_on_batch(model, folded, next(iter(Runner.build_dataloader(loader))))
    else:
        image = torch.randn(1, 3, MAX_SIZE, MAX_SIZE, generator=torch.Generator().manual_seed(0))
        difference = verify_folding(model, folded, image, mode='tensor')
    print(f'Verified: folded and unfolded outputs differ by at most {difference:.1e} of the '
          f'largest ({args.verify} input)')


def fold(args: argparse.Namespace) -> None:
    from mobileone_mm.folding.deployed_files import write_deployed
    from mobileone_mm.folding.models import build_model
    from mobileone_mm.utils.configs import parse_config
    cfg = parse_config(args.config)
    files = write_deployed(
        build_model(cfg), cfg, args.checkpoint, args.out, half=args.half,
        fuse_conv_bn=args.fuse_conv_bn, verify=partial(verify, args, cfg))
    print(f'Wrote {files}')


if __name__ == '__main__':
    sys.exit(run(make_parser(), fold, ValueError))
