"""Does training add more than 10 % to the bare step of the model, in data time and bookkeeping?

    python tools/benchmark/data_time.py
    python tools/benchmark/data_time.py configs/detection/ssdlite_mobileone_s0_coco.py \
        --data-root data/coco --batch-size 4

The loop, data pipeline, workers, optimizer and hooks are those of tools/train.py. It takes turns
with bare steps in one process, so that a busy machine slows both.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from mobileone_mm.benchmark.data_time import measure_loop
from mobileone_mm.cli import load_config
from mobileone_mm.datasets.shapes import make_shapes

CONFIG = Path(__file__).resolve().parents[2] / 'configs/detection/ssdlite_mobileone_s0_shapes.py'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', default=str(CONFIG))
    parser.add_argument('--data-root', help='by default, for the default config, drawn shapes that '
                                            'are made for the occasion; else what the config says')
    parser.add_argument('--batch-size', type=int, help="by default the config's")
    parser.add_argument('--rounds', type=int, default=12)
    parser.add_argument('--iterations', type=int, default=4, help='of each kind in a round')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = args.data_root
        if root is None and args.config == str(CONFIG):
            root = str(make_shapes(Path(folder, 'shapes'), 'coco', num_train=200, num_val=1))
        cfg = load_config(argparse.Namespace(
            config=args.config, cfg_options=dict(data_root=root) if root else None,
            launcher='none', local_rank=0, work_dir=str(Path(folder, 'work_dir'))))
        times = measure_loop(cfg, args.rounds, args.iterations, args.batch_size)
    print(f'{Path(args.config).name}, batch of {cfg.train_dataloader.batch_size}, {times.workers} '
          f'workers, {torch.get_num_threads()} threads (torch {torch.__version__}):\n'
          f'iteration {1e3 * times.loop:.1f} ms, of it data_time {1e3 * times.data:.1f} ms; '
          f'bare step {1e3 * times.bare:.1f} ms\n'
          f'iteration / bare step: median ratio {times.ratio:.3f}, rounds '
          + ' '.join(f'{ratio:.3f}' for ratio in times.ratios))


if __name__ == '__main__':
    main()
