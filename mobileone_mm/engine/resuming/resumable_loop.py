"""An epoch-based loop that can resume in the middle of an epoch."""

from typing import Any, Iterable, Iterator, Optional

from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader

from .interrupted import INTERRUPTED, largest, save_interrupted
from .seeded_dataset import DatasetError
from .workers import end_workers

# Keys that checkpoints keep, through mmengine's message hub.
_ITERS_KEY, _VALIDATED_KEY = 'iters_per_epoch', 'epoch_validated'


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop that can also resume a checkpoint from within an epoch.

    mmengine would start that epoch over and count its iterations twice. This loop continues with
    the next batch and does not load earlier ones again. If the run stopped in a validation, the
    validation is repeated.

    The order of batches must only depend on (seed, epoch), as with DefaultSampler.
    """

    def run(self) -> nn.Module:
        """Launch training."""
        try:
            self._check_position()  # before hooks that start from it, such as IterTimerHook
            self.runner.call_hook('before_train')
            if self._iter:
                self._validate_if_due()
            while self._epoch < self._max_epochs and not self.stop_training:
                self.run_epoch()
                self._validate_if_due()
            self.runner.call_hook('after_train')
        finally:
            for loop in (self, self.runner.val_loop):
                if loop is not None:
                    end_workers(loop.dataloader)
        return self.runner.model

    def run_epoch(self) -> None:
        """Run an epoch, or what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        for idx, data_batch in enumerate(self._checked(self._batches(done)), start=done):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches(self, done: int) -> Iterable[Any]:
        loader = self.dataloader
        if not done:
            return loader
        return DataLoader(
            loader.dataset,
            batch_sampler=list(loader.batch_sampler)[done:],
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context)

    def _checked(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Batches. If any process cannot load one, the training so far is saved."""
        iterator, error = iter(batches), None
        while True:
            batch = None
            try:
                batch = next(iterator)
            except StopIteration:
                return
            except DatasetError as caught:
                error = caught
            if largest(error is not None):
                raise self._saved(error) from error
            yield batch

    def _saved(self, error: Optional[DatasetError]) -> DatasetError:
        message = str(error or 'another process could not load a sample')
        if self._iter > self._start:
            save_interrupted(self.runner, self._iter)
            message += (f'. The {self._iter} iterations before are saved in {INTERRUPTED}: '
                        'repair or remove the file, and continue with --resume')
        return DatasetError(message)

    def _check_position(self) -> None:
        hub, length = self.runner.message_hub, len(self.dataloader)
        before = hub.runtime_info.get(_ITERS_KEY, length)
        hub.update_info(_ITERS_KEY, length)
        start = self._epoch * length
        if before != length or not start <= self._iter <= start + length:
            self.runner.logger.warning(
                f'an epoch has {length} iterations, but had {before} in the checkpoint (another '
                f'batch size, data set or number of GPUs?): epoch {self._epoch + 1} starts over; '
                'schedules by iteration keep their length')
            self._iter: int = start
        self._start = self._iter

    def _validate_if_due(self) -> None:
        hub, epoch = self.runner.message_hub, self._epoch
        self._decide_current_val_interval()
        complete = self._iter == epoch * len(self.dataloader)
        if (self.runner.val_loop is None or not complete or epoch < self.val_begin
                or hub.runtime_info.get(_VALIDATED_KEY) == epoch):
            return
        if epoch % self.val_interval == 0 or epoch == self._max_epochs:
            self.runner.val_loop.run()
            hub.update_info(_VALIDATED_KEY, epoch)
