"""What tools/train.py and tools/test.py do, for detection and segmentation alike."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..datasets.preflight import check_data
from ..engine import DatasetError, find_checkpoint, is_whole, join_cpu_processes, make_resumable
from ..export import ExportError
from ..export.running.exported_model import ExportedModel, is_exported
from ..folding.deployed_files import drop_training_hooks
from ..folding.models import load_weights
from ..utils.checkpoint_files import CheckpointError, read_checkpoint
from ..utils.configs import read_config
from ..utils.libraries import PreflightError
from ..utils.sliding_windows import check_windows
from .test_options import enable_tta, save_predictions, show_predictions

__all__ = ['main', 'read_config', 'test', 'train']


def main(command: Callable[[Optional[List[str]]], Any], *errors: Type[Exception]) -> int:
    """Run a command; what the user can mend is told in one message, without a traceback.

    Args:
        command: Takes the arguments, or None for those of the process.
        errors: What else the user can mend.

    Returns:
        The exit status.
    """
    mendable: Tuple[Type[Exception], ...] = (
        CheckpointError, DatasetError, ExportError, PreflightError, FileNotFoundError, *errors)
    try:
        command(None)
    except mendable as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


def train(argv: Optional[List[str]] = None) -> None:
    """Train (and validate) what a config describes."""
    parser = _parser('Train a detector, a segmentor or a classifier')
    parser.add_argument('--amp', action='store_true',
                        help='mixed precision: float16 on GPUs, bfloat16 on CPUs')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale lr by batch size / auto_scale_lr.base_batch_size')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='go on from a checkpoint, by default from the last whole one in the '
                             'work directory')
    args = parser.parse_args(argv)
    cfg = load_config(args)
    if args.amp:
        _enable_amp(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise PreflightError('--auto-scale-lr needs auto_scale_lr.base_batch_size in config')
        cfg.auto_scale_lr.enable = True
    _resume(cfg, args.resume)
    make_resumable(cfg)
    if _is_first_process():
        check_data(cfg, ('train', 'val'))
    if cfg.get('load_from') and not cfg.get('resume') and '://' not in cfg.load_from:
        read_checkpoint(cfg.load_from)  # mmengine's own error would be a traceback
    _build_runner(cfg).train()


def test(argv: Optional[List[str]] = None) -> Dict[str, float]:
    """Evaluate a checkpoint or an exported model on the test set of a config.

    Returns:
        The metrics, by name.
    """
    parser = _parser('Test a detector, a segmentor or a classifier')
    parser.add_argument('checkpoint', help='checkpoint, or a file that tools/deploy.py exported')
    parser.add_argument('--out', help='keep the predictions: in this .pkl file, of '
                                      'segmentation as images in this directory')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='directory for images of the predictions; detection '
                                           'puts it into WORK_DIR/TIMESTAMP')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds between images')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    args = parser.parse_args(argv)
    cfg = load_config(args)
    if '://' not in args.checkpoint and not Path(args.checkpoint).exists():
        raise PreflightError(f'the checkpoint {args.checkpoint} does not exist')
    exported = is_exported(args.checkpoint)
    if exported and args.tta:
        raise PreflightError('--tta works with checkpoints, not with exported models')
    if exported:
        drop_training_hooks(cfg)  # there is nothing in such a file to average or to fold
    if args.show or args.show_dir:
        show_predictions(cfg, args.show, args.show_dir, args.wait_time)
    if args.out:
        save_predictions(cfg, args.out)
    if _is_first_process():
        check_data(cfg, ('test', ))
    if args.tta:
        enable_tta(cfg)
    runner = _build_runner(cfg)
    model = runner.model
    while not hasattr(model, 'backbone') and hasattr(model, 'module'):  # of DDP or TTA
        model = model.module
    if exported:
        runner.model = ExportedModel.stand_in(args.checkpoint, cfg, model.data_preprocessor)
    else:
        load_weights(model, args.checkpoint)
    return runner.test()


def load_config(args: argparse.Namespace) -> Config:
    """Read the config, apply the options and settle the work directory."""
    cfg = read_config(args.config, args.cfg_options)
    check_windows(cfg)
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    return cfg


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='for logs and checkpoints; work_dirs/CONFIG by default')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='override settings of the config; data_root=DIR moves every path '
                             "below the config's data_root")
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes it; torchrun sets LOCAL_RANK instead
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help=argparse.SUPPRESS)
    return parser


def _enable_amp(cfg: Config) -> None:
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise PreflightError(f'--amp works with optim_wrapper.type OptimWrapper, not with {kind}')
    if get_device() == 'cpu':
        cfg.optim_wrapper.type = 'CPUAmpOptimWrapper'
        for option in ('loss_scale', 'dtype', 'use_fsdp'):
            cfg.optim_wrapper.pop(option, None)
        return
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def _resume(cfg: Config, resume: Optional[str]) -> None:
    if resume is None:
        return
    path = find_checkpoint(cfg.work_dir if resume == 'auto' else Path(resume).parent)
    if resume != 'auto':
        if not is_whole(resume):
            raise PreflightError(f'{resume} is no whole checkpoint' + (
                f'; the last whole one beside it is {path}' if path else ''))
        path = Path(resume)
    cfg.resume = path is not None
    cfg.load_from = str(path) if path else None
    print(f'resuming {path}' if path else f'no checkpoint in {cfg.work_dir}: starting anew')


def _is_first_process() -> bool:
    return int(os.environ.get('LOCAL_RANK', 0)) == 0


def _build_runner(cfg: Config) -> Runner:
    if get_device() == 'cpu':
        logs = dict(cfg.get('log_processor') or {})
        if logs.get('type', 'LogProcessor') == 'LogProcessor':
            cfg.log_processor = dict(logs, type='CPULogProcessor')
    if cfg.launcher == 'pytorch' and get_device() == 'cpu':
        join_cpu_processes(cfg)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
