"""Validate and deploy the folded form of the model in training."""

import copy
import os
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook, Hook, IterTimerHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu
from torch import nn

from ...folding.deployed_files import deployed_config, write_deployed
from ...folding.reparameterize import holds_unfolded, reparameterize, unwrap_model
from ...folding.verify import DEFAULT_TOLERANCE, first_of_batch, verify_on_batch
from ...utils.checkpoint_files import check_finite
from ..resuming.finding import run_directories


@HOOKS.register_module()
class ReparameterizeHook(Hook):
    """Fold MobileOne for validation and test, and write the files for deployment.

    Validation and test run on a folded copy of the model (with EMAHook, of the averaged weights);
    training continues with the original. For each new best checkpoint, and for the last one, the
    folded weights are written to ``<checkpoint>_deploy.pth`` and their config to
    ``<checkpoint>_deploy.py``. When CheckpointHook replaces a best checkpoint with a better one,
    these two are removed as well. Before they are written, weights are compared with the model's
    branches on an image of at most :data:`mobileone_mm.folding.verify.MAX_SIZE` pixels. If no best
    checkpoint is kept, or nothing is trained, the first copy is checked too.

    A model without an unfolded MobileOne is left alone, with a message.

    Args:
        tolerance: Largest accepted relative difference of folded and unfolded outputs; beyond it,
            training ends with an error. Defaults to 1e-3; see
            :func:`mobileone_mm.folding.verify.verify_folding`.
        fuse_conv_bn: Whether to also fold the batch norms of neck and head. Defaults to False.
    """

    # First, so that all other hooks find the trained model again after validation. Folding waits
    # for before_val_iter: by then EMAHook has swapped the weights in before_val_epoch.
    priority = 'HIGHEST'

    def __init__(self, tolerance: float = DEFAULT_TOLERANCE, fuse_conv_bn: bool = False) -> None:
        self.tolerance = tolerance
        self.fuse_conv_bn = fuse_conv_bn
        self._active = False
        self._trained: Optional[nn.Module] = None  # runner.model, while the folded copy replaces it
        self._batch: Any = None  # of one image, to check folding
        self._verified = False  # whether this run's folding has been or soon will be checked
        self._best: Dict[str, str] = {}  # message hub key -> best checkpoint, already folded

    def before_run(self, runner: Runner) -> None:
        """Check whether there is anything to fold."""
        self._restore(runner)
        self._verified = False
        self._active = holds_unfolded(runner.model)
        if not self._active:
            runner.logger.info('ReparameterizeHook is idle: the model holds no unfolded MobileOne')

    def before_train(self, runner: Runner) -> None:
        """Before training, refuse a config whose folded form cannot be written."""
        if self._active:
            deployed_config(runner.cfg, self.fuse_conv_bn)
            self._best = _best_checkpoints(runner)
            # The first validation gives a best checkpoint, whose fold is checked right away.
            self._verified = any(isinstance(hook, CheckpointHook) and bool(hook.save_best)
                                 for hook in runner.hooks)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep an image for the check, in case there is no validation."""
        if self._active and self._batch is None:
            self._batch = first_of_batch(data_batch)

    def before_train_epoch(self, runner: Runner) -> None:
        """Recover from a validation that ended in an exception."""
        self._restore(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Recover from a validation that ended in an exception."""
        self._restore(runner)

    def before_test_epoch(self, runner: Runner) -> None:
        """Recover from a test that ended in an exception."""
        self._restore(runner)

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Let the folded copy stand in for the model."""
        if self._active and self._trained is None:
            with _off_the_clock(runner):
                self._fold(runner, data_batch)

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Let the folded copy stand in for the model."""
        self.before_val_iter(runner, batch_idx, data_batch)

    def after_val_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        """Put the trained model back, before anything is saved."""
        self._restore(runner)

    def after_test_epoch(self, runner: Runner, metrics: Optional[dict] = None) -> None:
        """Put the trained model back."""
        self._restore(runner)

    def after_val(self, runner: Runner) -> None:
        """Fold what CheckpointHook has saved as the best."""
        if self._active:
            with _off_the_clock(runner):
                _on_main_process(self._write_best, runner)

    def after_train(self, runner: Runner) -> None:
        """Fold the last checkpoint."""
        if self._active:
            _on_main_process(self._write_last, runner)
            self._verified = False

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the folded copy out of a checkpoint that is saved during validation."""
        if self._trained is not None:
            checkpoint['state_dict'] = weights_to_cpu(unwrap_model(self._trained).state_dict())

    def _fold(self, runner: Runner, data_batch: Any) -> None:
        model = unwrap_model(runner.model)
        _on_main_process(check_finite, model.state_dict(), 'the model')
        folded = reparameterize(model, fuse_conv_bn=self.fuse_conv_bn)
        self._batch = first_of_batch(data_batch)
        if not self._verified:
            _on_main_process(self._verify, runner, model, folded)
            self._verified = True
        self._trained, runner.model = runner.model, folded

    def _restore(self, runner: Runner) -> None:
        if self._trained is not None:
            runner.model, self._trained = self._trained, None

    def _verify(self, runner: Runner, model: nn.Module, folded: nn.Module) -> None:
        difference = verify_on_batch(model, folded, self._batch, self.tolerance)
        runner.logger.info('Folded and unfolded outputs differ by at most '
                           f'{difference:.1e} of the largest (tolerance {self.tolerance:.0e})')

    def _write_best(self, runner: Runner) -> None:
        for key, checkpoint in _best_checkpoints(runner).items():
            previous = self._best.get(key)
            if checkpoint != previous or _is_outdated(_deployed(checkpoint), checkpoint):
                self._write(runner, checkpoint)
            if previous not in (None, checkpoint) and not os.path.exists(previous):
                for suffix in ('.pth', '.py'):
                    _deployed(previous).with_suffix(suffix).unlink(missing_ok=True)
            self._best[key] = checkpoint

    def _write_last(self, runner: Runner) -> None:
        checkpoint = runner.message_hub.runtime_info.get('last_ckpt')
        if checkpoint is None or _is_elsewhere(runner, checkpoint):
            runner.logger.warning('CheckpointHook saved nothing, so there is nothing to deploy')
        else:
            self._write(runner, checkpoint)

    def _write(self, runner: Runner, checkpoint: str) -> None:
        if not os.path.isfile(checkpoint):
            runner.logger.warning(f'{checkpoint} is not a local file: fold it with '
                                  'tools/reparameterize.py')
            return
        files = write_deployed(
            copy.deepcopy(unwrap_model(runner.model)), runner.cfg, checkpoint,
            _deployed(checkpoint), fuse_conv_bn=self.fuse_conv_bn,
            verify=partial(self._verify, runner))
        runner.logger.info(f'Deployed {files}')


@contextmanager
def _off_the_clock(runner: Runner) -> Iterator[None]:
    """Exclude the time for folding from the logged time of the next iteration."""
    start = time.time()
    yield
    for hook in runner.hooks:
        if isinstance(hook, IterTimerHook) and hasattr(hook, 't'):
            hook.t += time.time() - start


def _best_checkpoints(runner: Runner) -> Dict[str, str]:
    """The run's best checkpoint of each metric, according to CheckpointHook."""
    return {key: path for key, path in runner.message_hub.runtime_info.items()
            if key.startswith('best_ckpt') and path and not _is_elsewhere(runner, path)}


def _is_elsewhere(runner: Runner, checkpoint: str) -> bool:
    """Whether a file is in another directory, as a resumed message hub may say."""
    own = {os.path.realpath(path) for path in run_directories(runner.work_dir, runner.cfg)}
    return '://' not in checkpoint and os.path.realpath(os.path.dirname(checkpoint)) not in own


def _deployed(checkpoint: str) -> Path:
    return Path(checkpoint).with_name(f'{Path(checkpoint).stem}_deploy.pth')


def _is_outdated(path: Path, source: str) -> bool:
    return not path.exists() or path.stat().st_mtime_ns < os.stat(source).st_mtime_ns


def _on_main_process(function: Callable, *args: Any) -> None:
    """Run on rank 0 while other ranks wait; if it fails, all of them fail instead of hanging."""
    message: List[Optional[str]] = [None]
    error: Optional[Exception] = None
    if is_main_process():
        try:
            function(*args)
        except Exception as caught:
            message, error = [f'{type(caught).__name__} on rank 0: {caught}'], caught
    broadcast_object_list(message)
    if message[0] is not None:
        raise error or RuntimeError(message[0])
