"""A detector's or segmenter's training iteration by the textbook branches and by 'auto'.

    python tools/benchmark/train_engines.py
    python tools/benchmark/train_engines.py configs/detection/ssdlite_mobileone_s0_coco.py \
        --data-root data/coco --batch-size 8

The loop, data pipeline, head, loss, optimizer and hooks are those of tools/train.py. One training
run in one process changes the engine in every iteration, so a busy machine slows both alike. Times
are CPU times.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from mobileone_mm.benchmark.engine_turns import compare_engines, median_ratio
from mobileone_mm.cli import load_config
from mobileone_mm.datasets.shapes import make_shapes

CONFIG = Path(__file__).resolve().parents[2] / 'configs/detection/ssdlite_mobileone_s0_shapes.py'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', default=str(CONFIG))
    parser.add_argument('--data-root', help='by default, for the default config, drawn shapes that '
                                            'are made for the occasion; else what the config says')
    parser.add_argument('--engines', nargs='+', default=['textbook', 'auto'])
    parser.add_argument('--batch-size', type=int, help="by default the config's")
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = args.data_root
        if root is None and args.config == str(CONFIG):
            root = str(make_shapes(Path(folder, 'shapes'), 'coco', num_train=100, num_val=1))
        cfg = load_config(argparse.Namespace(
            config=args.config, cfg_options=dict(data_root=root) if root else None,
            launcher='none', local_rank=0, work_dir=str(Path(folder, 'work_dir'))))
        torch.set_num_threads(args.threads)
        times = compare_engines(cfg, args.engines, args.rounds, args.batch_size)
    print(f'{Path(args.config).name}, batch of {cfg.train_dataloader.batch_size}, {args.rounds} '
          f'rounds, {args.threads} threads (torch {torch.__version__}), CPU time of an iteration:')
    for engine, seconds in times.items():
        ratio = median_ratio(seconds, times[args.engines[0]])
        print(f'{engine:10} {1e3 * statistics.median(seconds):7.0f} ms, '
              f'x {args.engines[0]} {ratio:.3f}')


if __name__ == '__main__':
    main()
