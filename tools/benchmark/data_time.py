"""Check that data loading and bookkeeping add at most 10 % to the bare training step.

    python tools/benchmark/data_time.py
    python tools/benchmark/data_time.py configs/detection/ssdlite_mobileone_s0_coco.py \
        --data-root data/coco --batch-size 4

The loop, data pipeline, workers, optimizer and hooks are those of tools/train.py. The loop takes
turns with bare steps in one process, so a busy machine slows both.
"""

import sys  # noqa: I001  (mobileone_mm before torch, as tools/train.py does)
from pathlib import Path

import mobileone_mm  # noqa: F401
import torch
from training_config import training_config, training_parser

from mobileone_mm.benchmark.training.data_time import measure_loop
from mobileone_mm.commands.main import main as run


def main() -> None:
    parser = training_parser(__doc__)
    parser.add_argument('--rounds', type=int, default=12)
    parser.add_argument('--iterations', type=int, default=4, help='number of each kind in a round')
    args = parser.parse_args()
    with training_config(args) as cfg:
        times = measure_loop(cfg, args.rounds, args.iterations, args.batch_size)
    print(f'{Path(args.config).name}, batch of {cfg.train_dataloader.batch_size}, {times.workers} '
          f'workers, {torch.get_num_threads()} threads (torch {torch.__version__}):\n'
          f'iteration {1e3 * times.loop:.1f} ms, including data_time {1e3 * times.data:.1f} ms; '
          f'bare step {1e3 * times.bare:.1f} ms\n'
          f'iteration / bare step: median ratio {times.ratio:.3f}, rounds '
          + ' '.join(f'{ratio:.3f}' for ratio in times.ratios))


if __name__ == '__main__':
    sys.exit(run(lambda _: main()))
