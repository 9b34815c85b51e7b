"""Give all processes the same running statistics."""

from mmengine.hooks import SyncBuffersHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..resuming.interrupted import average_statistics


@HOOKS.register_module()
class SyncStatisticsHook(SyncBuffersHook):
    """mmengine's SyncBuffersHook, for EMAHook's model too.

    EMAHook saves its own copies of the running statistics. mmengine only averages those of the
    trained model, so checkpoints would hold the first process's.
    """

    def after_train_epoch(self, runner: Runner) -> None:
        """Average the running statistics."""
        average_statistics(runner)
        self.called_in_train = True
