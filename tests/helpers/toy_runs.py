"""Train the toy classifier with the setup of tools/train.py."""

import hashlib
import itertools
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from toy_classifier import toy_config

from mobileone_mm.engine import make_resumable

_count = itertools.count()


def build(work_dir: Path, resume: Optional[Path] = None, hooks: Sequence[Hook] = (),
          options: Optional[Dict[str, Any]] = None, **kwargs: Any) -> Runner:
    """A runner; ``kwargs`` are those of :func:`toy_config`, ``options`` change its result."""
    cfg = Config(toy_config(work_dir, **kwargs))
    # mmengine keeps one message hub per name and process
    cfg.experiment_name = f'{work_dir.name}-{next(_count)}'
    cfg.log_level = 'WARNING'
    cfg.merge_from_dict(options or {})
    if resume is not None:
        cfg.update(resume=True, load_from=str(resume))
    make_resumable(cfg)
    runner = RUNNERS.build(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    return runner


def train(*args: Any, **kwargs: Any) -> Runner:
    """Train; see :func:`build`."""
    runner = build(*args, **kwargs)
    runner.train()
    return runner


def files(folder: Path) -> Dict[str, str]:
    """The hash of each checkpoint and deployed config in a work directory."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for pattern in ('*.pth', '*_deploy.py') for path in folder.glob(pattern)}


def edit(path: Path, change: Any) -> None:
    """Load a checkpoint, change it and save it."""
    content = torch.load(path, weights_only=False)
    change(content)
    torch.save(content, path)
