"""Draw a config's learning rate, weight decay, resolution and augmentation strength per epoch.

    python tools/plot_schedule.py configs/classification/mobileone_s2_in1k.py --out s2.png
"""

import argparse
import sys
from pathlib import Path

from command_line import arguments
from command_line import run as run_command


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', help='the PNG to write (default: CONFIG_schedule.png in the '
                                      'current directory)')
    parser.add_argument('--iters-per-epoch', type=int,
                        help="default: by the published data set and the recipe's batch size")
    arguments().add_cfg_options(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    from mmengine.logging import MMLogger

    from mobileone_mm.commands.plot_schedule import draw_schedule, iterations_per_epoch, simulate
    from mobileone_mm.utils.configs import read_config
    out = Path(args.out or f'{Path(args.config).stem}_schedule.png')
    MMLogger.get_instance('plot_schedule', log_level='WARNING')  # otherwise a line per parameter
    cfg = read_config(args.config, args.cfg_options)
    iters = args.iters_per_epoch or iterations_per_epoch(cfg)
    schedule = simulate(cfg, iters)
    draw_schedule(schedule, out, f'{Path(args.config).name}, {iters} iterations per epoch')
    print(f'{out}: {len(schedule.strength)} epochs of {iters} iterations')
    for i, name in enumerate(schedule.groups):
        print(f'  {name}: lr at most {schedule.lr[:, i].max():.3g}, last '
              f'{schedule.lr[-1, i]:.3g}; weight decay {schedule.weight_decay[0, i]:.3g} to '
              f'{schedule.weight_decay[-1, i]:.3g}')


if __name__ == '__main__':
    sys.exit(run_command(make_parser(), run, ValueError))
