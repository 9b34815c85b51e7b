"""Code of the two processes in tests/engine/resuming/test_processes.py."""

import os
import signal
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS, RUNNERS
from torch import nn
from toy_classifier import ToyDataset, toy_config

from mobileone_mm.engine import DatasetError, join_cpu_processes, make_resumable


@HOOKS.register_module()
class StopOne(Hook):
    """Signals only the second process, in an iteration, and keeps its state before that."""

    def __init__(self, folder, stop_at):
        self.folder, self.stop_at = Path(folder), stop_at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.stop_at:
            torch.save(dict(runner.model.module.named_buffers()),
                       self.folder / f'buffers{get_rank()}.pt')
            if get_rank() == 1:
                os.kill(os.getpid(), signal.SIGTERM)


@DATASETS.register_module()
class BrokenForOne(ToyDataset):
    """The toy data set with a picture that the second process cannot read."""

    read = 0

    def prepare_data(self, idx):
        self.read += 1
        if get_rank() == 1 and self.read == 6:
            raise OSError('truncated')
        return super().prepare_data(idx)


@MODELS.register_module()
class SmallNet(BaseModel):
    """Convolution, batch norm, a linear layer."""

    def __init__(self):
        super().__init__(BaseDataPreprocessor())
        self.conv, self.norm, self.fc = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, inputs, labels=None, mode='tensor'):
        logits = self.fc(self.norm(self.conv(inputs)).relu().mean((2, 3)))
        if mode == 'loss':
            return dict(loss=nn.functional.cross_entropy(logits, labels))
        return [dict(logits=one, label=label) for one, label in zip(logits, labels)]


def work(rank, port, folder, name, stop_at=None, resume=False, broken=False):
    """Train the toy classifier in two processes; the exit status is that of tools/train.py."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2',
                      MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    cfg = Config(toy_config(Path(folder) / name, hook=False, ema=True))
    cfg.model = dict(type='SmallNet')
    cfg.custom_hooks[0].pop('update_buffers')  # as in the recipes
    cfg.launcher, cfg.log_level, cfg.experiment_name = 'pytorch', 'ERROR', f'{name}-{resume}'
    cfg.train_dataloader.batch_size = 2
    cfg.default_hooks.checkpoint.save_best = None
    if stop_at is not None:
        cfg.custom_hooks.append(dict(type='StopOne', folder=folder, stop_at=stop_at))
    if broken:
        cfg.train_dataloader.dataset.type = 'BrokenForOne'
    if resume:
        cfg.resume, cfg.load_from = True, str(Path(folder) / name / 'interrupted.pth')
    make_resumable(cfg)
    join_cpu_processes(cfg)
    runner = RUNNERS.build(cfg)
    try:
        runner.train()
    except DatasetError as error:
        (Path(folder) / f'error{rank}.txt').write_text(str(error))
        raise SystemExit(1) from None
    ema = next(hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook))
    torch.save(dict(model=runner.model.module.state_dict(), ema=ema.module.state_dict()),
               Path(folder) / f'{name}{rank}.pt')
    dist.destroy_process_group()
