"""Draw pictures of a run: its first training images after augmentation, and its learning curve."""

import time
from pathlib import Path
from typing import Any, Callable, Optional

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..run_pictures import draw_batch, draw_learning_curve

SECONDS = 30.  # minimum time between two drawings of the curve


@HOOKS.register_module()
class RunPicturesHook(Hook):
    """Write two pictures to the work directory.

    ``train_images.png`` shows the first batch of the run, with its boxes or labels, as the network
    sees it after augmentation. The batch comes from the training itself, so this changes no random
    numbers. ``learning_curve.png`` shows losses, learning rate and metrics of all runs in the
    directory. It is drawn after a validation, at most twice a minute, and at the end.

    If a picture cannot be drawn, the log says so, and the run continues.

    Args:
        max_images: Maximum number of images. Defaults to 16.
    """

    priority = 'VERY_LOW'

    def __init__(self, max_images: int = 16) -> None:
        self.max_images = max_images
        self._batch_drawn = False
        self._curve_drawn: Optional[float] = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Draw the first batch of the run."""
        if not self._batch_drawn:
            self._batch_drawn = True
            self._attempt(runner, 'train_images.png',
                          lambda path: draw_batch(data_batch, path, self.max_images))

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Draw the curve, unless it was drawn just now."""
        if self._curve_drawn is None or time.monotonic() - self._curve_drawn > SECONDS:
            self._draw_curve(runner)

    def after_train(self, runner: Runner) -> None:
        """Draw the whole curve."""
        self._draw_curve(runner)

    def _draw_curve(self, runner: Runner) -> None:
        self._attempt(runner, 'learning_curve.png',
                      lambda path: draw_learning_curve(runner.work_dir, path))
        self._curve_drawn = time.monotonic()

    @master_only
    def _attempt(self, runner: Runner, name: str, draw: Callable[[Path], None]) -> None:
        try:
            draw(Path(runner.work_dir) / name)
        except Exception as error:  # noqa: BLE001  (no picture is worth a training run)
            runner.logger.warning(f'{name} could not be drawn: {type(error).__name__}: {error}')
