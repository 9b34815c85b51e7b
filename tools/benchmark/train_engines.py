"""Time a training iteration of a detector or segmentor with textbook branches and with 'auto'.

    python tools/benchmark/train_engines.py
    python tools/benchmark/train_engines.py configs/detection/ssdlite_mobileone_s0_coco.py \
        --data-root data/coco --batch-size 8

The loop, data pipeline, head, loss, optimizer and hooks are those of tools/train.py. The engine
changes in every iteration of one training, so a busy machine slows both alike. Times are CPU times.
"""

import statistics  # noqa: I001  (mobileone_mm before torch, as tools/train.py does)
import sys
from pathlib import Path

import mobileone_mm  # noqa: F401
import torch
from training_config import training_config, training_parser

from mobileone_mm.benchmark.training.engine_turns import compare_engines, median_ratio
from mobileone_mm.commands.main import main as run


def main() -> None:
    parser = training_parser(__doc__)
    parser.add_argument('--engines', nargs='+', default=['textbook', 'auto'])
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    with training_config(args) as cfg:
        torch.set_num_threads(args.threads)
        times = compare_engines(cfg, args.engines, args.rounds, args.batch_size)
    print(f'{Path(args.config).name}, batch of {cfg.train_dataloader.batch_size}, {args.rounds} '
          f'rounds, {args.threads} threads (torch {torch.__version__}), CPU time of an iteration:')
    for engine, seconds in times.items():
        ratio = median_ratio(seconds, times[args.engines[0]])
        print(f'{engine:10} {1e3 * statistics.median(seconds):7.0f} ms, '
              f'x {args.engines[0]} {ratio:.3f}')


if __name__ == '__main__':
    sys.exit(run(lambda _: main()))
