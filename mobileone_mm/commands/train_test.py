"""The code of tools/train.py and tools/test.py, for all tasks."""

import argparse
import os
import sys
from pathlib import Path
from typing import Dict, List, Optional, Union

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.registry import RUNNERS, VISUALIZERS
from mmengine.runner import Runner

from ..datasets.preflight import DataCheck, check_classes, check_data, check_network
from ..engine import (
    find_checkpoint,
    join_cpu_processes,
    lock_directories,
    make_resumable,
    read_whole,
    run_directories,
)
from ..engine.console import quiet_start
from ..engine.load_from import check_load_from
from ..export.running.exported_model import ExportedModel, is_exported
from ..folding.deployed_files import drop_training_hooks
from ..folding.models import load_weights
from ..folding.reparameterize import unwrap_model
from ..utils.checkpoint_files import CheckpointError, read_checkpoint
from ..utils.configs import read_config
from ..utils.libraries import PreflightError
from ..utils.sliding_windows import check_windows
from .arguments import test_parser, train_parser
from .main import main
from .test_options import (
    draw_report,
    enable_tta,
    resize_images,
    save_predictions,
    show_predictions,
)

__all__ = ['main', 'read_config', 'test', 'train']

Arguments = Union[List[str], argparse.Namespace, None]


def train(argv: Arguments = None) -> None:
    """Train and validate a config; takes parsed or unparsed arguments."""
    args = argv if isinstance(argv, argparse.Namespace) else train_parser().parse_args(argv)
    cfg = load_config(args)
    if args.amp:
        _enable_amp(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise PreflightError('--auto-scale-lr: the config has no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    make_resumable(cfg)
    _draw_run(cfg)
    directories = run_directories(str(cfg.work_dir), cfg)
    with lock_directories(*(directories if _is_main_process(cfg.launcher) else [])):
        _resume(cfg, args.resume, directories)
        checked = _check_data(cfg, 'train', 'val')
        starts_from = None if cfg.get('resume') else cfg.get('load_from')
        # Read before building the model, which takes long.
        content = read_checkpoint(starts_from) if starts_from else None
        with quiet_start(args.verbose) as started:
            runner = started(_build_runner(cfg))
        if starts_from:
            check_load_from(unwrap_model(runner.model), content, starts_from)
            del content  # mmengine reads the file for itself
        _tell(check_network(runner, checked.train_samples))
        runner.train()


def test(argv: Arguments = None) -> Dict[str, float]:
    """Evaluate a checkpoint or an exported model on the test set of a config.

    Returns:
        Metrics by name.
    """
    args = argv if isinstance(argv, argparse.Namespace) else test_parser().parse_args(argv)
    cfg = load_config(args)
    if '://' not in args.checkpoint and not Path(args.checkpoint).expanduser().exists():
        raise PreflightError(f'the checkpoint {args.checkpoint} does not exist')
    exported = is_exported(args.checkpoint)
    if exported and args.tta:
        raise PreflightError('--tta works with checkpoints, not with exported models')
    if exported:
        drop_training_hooks(cfg)  # an exported file has no weights to average or fold
    if args.show or args.show_dir:
        show_predictions(cfg, args.show, args.show_dir, args.wait_time)
    if args.out:
        save_predictions(cfg, args.out)
    if args.resize:
        resize_images(cfg, args.resize)
    if args.report:
        draw_report(cfg, args.report, args.worst)
    _check_data(cfg, 'test')
    if args.tta:
        enable_tta(cfg)
    with quiet_start(args.verbose) as started:
        runner = started(_build_runner(cfg))
    model = runner.model
    while not hasattr(model, 'backbone') and hasattr(model, 'module'):  # unwrap DDP or TTA
        model = model.module
    if exported:
        runner.model = ExportedModel.stand_in(args.checkpoint, cfg, model.data_preprocessor)
    else:
        meta = load_weights(model, args.checkpoint)
        check_classes(cfg, 'test', (meta.get('dataset_meta') or {}).get('classes'), args.checkpoint)
    return runner.test()


def load_config(args: argparse.Namespace) -> Config:
    """Read the config, apply the options and set the work directory."""
    if args.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise PreflightError('--launcher pytorch: start the processes with torchrun or '
                             'tools/dist_train.sh')
    cfg = read_config(args.config, args.cfg_options)
    check_windows(cfg)
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    return cfg


def _draw_run(cfg: Config) -> None:
    """Draw pictures of the run, unless the config has ``default_hooks.run_pictures=None``."""
    hooks = cfg.setdefault('default_hooks', ConfigDict())
    if hooks.setdefault('run_pictures', ConfigDict(type='RunPicturesHook')) is None:
        hooks.pop('run_pictures')


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


def _resume(cfg: Config, resume: Optional[str], directories: List[Path]) -> None:
    if resume is None and cfg.get('resume'):
        resume = cfg.get('load_from') or 'auto'
    if resume is None:
        return
    if resume == 'auto':
        path = find_checkpoint(*directories)
    else:
        path = Path(resume)
        _check_whole(path)
    cfg.resume = path is not None
    cfg.load_from = str(path) if path else None
    print(f'resuming {path}' if path else f'no checkpoint in {cfg.work_dir}: starting from scratch')


def _check_whole(path: Path) -> None:
    try:
        read_whole(path)
    except CheckpointError as error:
        other = find_checkpoint(path.parent)
        raise CheckpointError(
            f'{error}; the newest complete one beside it is {other}' if other else error) from error


def _check_data(cfg: Config, *loaders: str) -> DataCheck:
    """Check the data in each process, since this may change the config; the first one prints."""
    try:
        checked = check_data(cfg, loaders)
    except PreflightError:
        if _is_first_process():
            raise
        sys.exit(1)
    _tell(checked.notes)
    return checked


def _tell(notes: List[str]) -> None:
    if _is_first_process():
        for note in dict.fromkeys(notes):
            print(f'note: {note}')


def _is_first_process() -> bool:
    """Whether this is the first process on its machine."""
    return int(os.environ.get('LOCAL_RANK', 0)) == 0


def _is_main_process(launcher: str) -> bool:
    """Whether this is the first of all processes."""
    rank = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK').get(launcher, '')
    return int(os.environ.get(rank, 0)) == 0


def _build_runner(cfg: Config) -> Runner:
    _forget_visualizer(cfg)
    if get_device() == 'cpu':
        logs = dict(cfg.get('log_processor') or {})
        if logs.get('type', 'LogProcessor') == 'LogProcessor':
            cfg.log_processor = dict(logs, type='CPULogProcessor')
    if cfg.launcher == 'pytorch' and get_device() == 'cpu':
        join_cpu_processes(cfg)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def _forget_visualizer(cfg: Config) -> None:
    """Forget an earlier run of this name: mmengine would log to its directory."""
    visualizer = cfg.get('visualizer') or {}
    with VISUALIZERS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
        kind = registry.get(str(visualizer.get('type')))
    getattr(kind, '_instance_dict', {}).pop(visualizer.get('name'), None)
