"""mmengine's Runner that checks what it resumes."""

from pathlib import Path
from typing import Any

from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ...folding.reparameterize import unwrap_model
from .finding import read_whole, run_directories
from .fitting import check_fits
from .own_files import own_files_only


@RUNNERS.register_module()
class ResumableRunner(Runner):
    """mmengine's Runner that only resumes checkpoints of its own training.

    The checkpoint is compared with model, optimizer and schedulers before anything is written. None
    of its content is executed: mmengine would run ``meta['config']`` as Python. Paths in its
    message hub are checked against the run's own directory.
    """

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict:
        """Load weights; when resuming, completely or not at all.

        Raises:
            CheckpointError: When resuming, the file is damaged or belongs to another training.
            FileNotFoundError: The file does not exist.
        """
        if not self._resume:
            return super().load_checkpoint(filename, *args, **kwargs)
        checkpoint = read_whole(filename)
        check_fits(self, checkpoint, filename)
        checkpoint['meta'].pop('config', None)
        self._adopt(checkpoint['message_hub'], filename)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        # not strict: counts of batches may be missing
        unwrap_model(self.model).load_state_dict(checkpoint['state_dict'], strict=False)
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume a training, and then replace the copy of the config in the work directory."""
        super().resume(filename, *args, **kwargs)
        self.dump_config()

    def dump_config(self) -> None:
        """Write a copy of the config, unless there is a checkpoint yet to compare."""
        if self._has_loaded or not self._resume:
            super().dump_config()

    def _adopt(self, hub: dict, filename: str) -> None:
        for path in own_files_only(hub, filename, run_directories(self.work_dir, self.cfg)):
            if Path(path).is_file():
                self.logger.info(f'{path} is not a file of this run: it stays as it is')
