"""Write checkpoints that are complete or absent."""

from inspect import signature
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..resuming.atomic_backend import BACKEND, LateRemovals


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, safe against a kill at any moment.

    A checkpoint is written to a temporary file and renamed once it is completely on disk. Only then
    is the one that it replaces removed (``max_keep_ckpts``, ``save_best``); mmengine removes first
    and writes in place. Nothing outside the run's own directory is removed. Remote directories are
    left to mmengine.

    Arguments are those of :class:`mmengine.hooks.CheckpointHook`.

    Raises:
        ValueError: An argument is unknown; mmengine would notice only when it saves.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        unknown = set(self.args) - set(signature(Runner.save_checkpoint).parameters)
        if unknown:
            raise ValueError(f'CheckpointHook has no option {", ".join(sorted(unknown))}: expected '
                             f'{", ".join(list(signature(CheckpointHook).parameters)[:-1])}')

    def before_train(self, runner: Runner) -> None:
        """Choose the backend, and remove files that a killed run left half-written."""
        super().before_train(runner)
        if type(self.file_backend) is not LocalBackend or self.file_client_args is not None:
            return
        self.backend_args = dict(backend=BACKEND)
        self.file_backend: LocalBackend = LateRemovals(self.out_dir)
        if is_main_process():
            for directory in {self.out_dir, runner.work_dir}:
                for leftover in Path(directory).glob('*.pth.*.tmp'):
                    leftover.unlink()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        super()._save_checkpoint_with_step(runner, step, meta)
        self._flush()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._flush()

    def _flush(self) -> None:
        backend = getattr(self, 'file_backend', None)  # none in a validation without training
        if isinstance(backend, LateRemovals):
            backend.flush()
