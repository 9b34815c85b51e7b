"""The same running statistics in all processes."""

from mmengine.hooks import SyncBuffersHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..resuming.interrupted import average_statistics


@HOOKS.register_module()
class SyncStatisticsHook(SyncBuffersHook):
    """mmengine's SyncBuffersHook, also for EMAHook's model.

    EMAHook saves its own copies of the running statistics. mmengine averages only the trained
    model's, so checkpoints would hold those of the first process.
    """

    def after_train_epoch(self, runner: Runner) -> None:
        """Average the running statistics."""
        average_statistics(runner)
        self.called_in_train = True
