"""Measure how much worse a checkpoint is in eval mode, and re-estimate its batch norms' statistics.

    python tools/bn_statistics.py CONFIG CHECKPOINT                # measure only
    python tools/bn_statistics.py CONFIG CHECKPOINT --out NEW.pth  # and write a new one
"""

import argparse
import sys

from command_line import arguments, run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='the checkpoint to write, *.pth')
    parser.add_argument('--batches', type=int, default=200,
                        help='maximum number of training batches (default: 200)')
    parser.add_argument('--device', default='cpu', help='default: cpu')
    arguments().add_cfg_options(parser)
    return parser


def report(args: argparse.Namespace) -> None:
    from mobileone_mm.commands.bn_statistics import (
        TrainingBatches,
        check_out,
        measure_gap,
        rank_shifts,
        statistics,
        write_reestimated,
    )
    from mobileone_mm.datasets.preflight import check_data
    from mobileone_mm.folding.models import build_model, load_weights
    from mobileone_mm.utils.configs import read_config
    from mobileone_mm.utils.devices import find_device
    if args.out:
        check_out(args.out, args.checkpoint)
    device = find_device(args.device)
    cfg = read_config(args.config, args.cfg_options)
    for note in check_data(cfg, ('train', )).notes:
        print(f'note: {note}')
    model = build_model(cfg).to(device)
    load_weights(model, args.checkpoint)
    batches = TrainingBatches(cfg, args.batches)
    print(f'{args.checkpoint} on {len(batches)} training batches: {measure_gap(model, batches)}')
    if not args.out:
        return
    before = statistics(model)
    number = write_reestimated(model, args.checkpoint, args.out, batches)
    print(f'{args.out}, new statistics of {number} batch norms: {measure_gap(model, batches)}')
    print('Largest changes (mean in standard deviations, ratio of variances):')
    for shift in rank_shifts(before, statistics(model))[:5]:
        print(f'  {shift.mean:9.3g} {shift.variance:9.3g}  {shift.name}')


if __name__ == '__main__':
    sys.exit(run(make_parser(), report, ValueError))
