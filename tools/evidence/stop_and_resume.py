"""Stop a training with a signal, resume it, and compare its losses with an uninterrupted run's.

    python tools/evidence/stop_and_resume.py configs/detection/ssdlite_mobileone_s2_coco.py \
        --data-root data/coco

Runs tools/train.py three times. The config changes only in the data root, the number of epochs, the
batch size, random weights (nothing is downloaded) and a log line for each iteration. Exits with an
error if any loss differs.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List

TRAIN = Path(__file__).resolve().parents[1] / 'train.py'


def command(args: argparse.Namespace, work_dir: Path) -> List[str]:
    """The command that runs tools/train.py."""
    return [sys.executable, str(TRAIN), args.config, '--work-dir', str(work_dir), '--cfg-options',
            f'data_root={args.data_root}', f'train_dataloader.batch_size={args.batch_size}',
            f'train_cfg.max_epochs={args.epochs}', f'train_cfg.val_interval={args.epochs}',
            'model.backbone.init_cfg=None', 'randomness.seed=0',
            'default_hooks.logger.interval=1', 'log_processor.window_size=1']


def losses(work_dir: Path) -> Dict[int, float]:
    """The loss of each iteration, over all runs in a work directory."""
    lines = [json.loads(line) for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
             for line in path.read_text().splitlines() if line.endswith('}')]
    return {line['step']: line['loss'] for line in lines if 'loss' in line}


def stop(args: argparse.Namespace, work_dir: Path) -> int:
    """Train, and send SIGTERM once some iterations are logged; returns the exit status."""
    process = subprocess.Popen(command(args, work_dir))
    while process.poll() is None and len(losses(work_dir)) < args.stop_after:
        time.sleep(.1)
    process.send_signal(signal.SIGTERM)
    return process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('--data-root', default='data/coco')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/stop_and_resume'))
    parser.add_argument('--epochs', type=int, default=2)
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--stop-after', type=int, default=2, help='iterations')
    args = parser.parse_args()
    if args.work_dir.exists():
        sys.exit(f'error: {args.work_dir} exists: remove it, or name another with --work-dir')
    whole, cut = args.work_dir / 'whole', args.work_dir / 'cut'
    subprocess.run(command(args, whole), check=True)
    status = stop(args, cut)
    if status != 128 + signal.SIGTERM or not (cut / 'interrupted.pth').is_file():
        sys.exit(f'error: the run was not stopped in time (status {status}): lower --stop-after')
    before = len(losses(cut))
    subprocess.run([*command(args, cut), '--resume'], check=True)

    expected, found = losses(whole), losses(cut)
    for step, loss in expected.items():
        print(f'iteration {step}: uninterrupted {loss:.6f}, '
              f'{"before the stop" if step <= before else "resumed"} '
              f'{found.get(step, float("nan")):.6f}')
    if found != expected:
        sys.exit('error: the losses differ')
    print(f'the {len(expected)} losses are equal; stopped by SIGTERM after iteration {before}')


if __name__ == '__main__':
    main()
