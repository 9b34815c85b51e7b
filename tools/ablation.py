"""Train variants of a config (the paper's Tables 5, 6 and 8) with several seeds, and compare them.

    python tools/ablation.py configs/classification/mobileone_s0_shapes.py \
        --variants baseline k1 plain no_annealing --seeds 0 1 2 --out work_dirs/ablation

After an interruption, the same command continues. --out gets results.md, results.png and the runs.
To train on several GPUs, use --configs-only, which only writes the variants' configs there.
"""

import argparse
import sys
from pathlib import Path

from command_line import arguments
from command_line import run as run_command

VARIANTS = {
    'baseline': 'the config as it is',
    **{f'k{k}': f'{k} convolutional branches (Table 6)' for k in range(1, 6)},
    'no_scale': 'without the 1x1 branch',
    'no_skip': 'without the skip branch',
    'plain': 'one convolution and no other branch (Table 5)',
    'no_annealing': 'constant weight decay (Table 8)',
    'no_progressive': 'full resolution and augmentation throughout (Table 8)',
    'no_ema': 'without averaged weights (Table 8)',
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='variants:\n' + '\n'.join(f'  {k}: {about}' for k, about in VARIANTS.items()))
    parser.add_argument('config', help='config file')
    parser.add_argument('--variants', nargs='+', default=['baseline', 'k1', 'plain'],
                        help='differences are relative to the first')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--out', required=True, help='output directory')
    parser.add_argument('--configs-only', action='store_true',
                        help="write each variant's config into the output directory and stop")
    arguments().add_cfg_options(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    from mobileone_mm.commands.ablation import run_ablation, write_variants
    from mobileone_mm.commands.ablation_report import draw_ablation, summarize, table
    from mobileone_mm.commands.train_test import train
    from mobileone_mm.datasets.preflight import check_data
    from mobileone_mm.utils.configs import read_config
    from mobileone_mm.utils.fileio import atomic_path
    cfg = read_config(args.config, args.cfg_options)
    out = Path(args.out)
    if args.configs_only:
        for path in write_variants(cfg, args.variants, out):
            print(path)
        return
    for note in check_data(cfg).notes:
        print(f'note: {note}')
    results = run_ablation(cfg, args.variants, args.seeds, out, train)
    rows, metric = summarize(results), results[0]['metric']
    text = table(rows, metric)
    with atomic_path(out / 'results.md') as path:
        path.write_text(text)
    draw_ablation(rows, metric, out / 'results.png',
                  f'{Path(args.config).stem}, {len(args.seeds)} seeds')
    print(f'\n{text}\n{out}/results.md, {out}/results.png')


if __name__ == '__main__':
    sys.exit(run_command(make_parser(), run, ValueError))
