"""Make all random numbers of an iteration depend only on (seed, iteration)."""

from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..resuming.seeded_dataset import seed_everything, seeded_datasets


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Reseed before each iteration, so that a resumed run draws what the uninterrupted one would.

    The model's randomness (for example dropout) then follows from the runner's seed, the iteration
    and the rank; that of samples follows from :class:`~mobileone_mm.engine.SeededDataset`. The seed
    is the one that mmengine keeps in the checkpoint, and need not be set in the config.
    """

    priority = 'VERY_HIGH'  # before DistSamplerSeedHook and anything that draws random numbers

    def before_train(self, runner: Runner) -> None:
        """Set the checkpoint's seed in the sampler, which was built before the file was read."""
        loader = runner.train_loop.dataloader
        for sampler in (loader.sampler, getattr(loader.batch_sampler, 'sampler', None)):
            if sampler is not None and hasattr(sampler, 'seed'):
                sampler.seed = runner.seed

    def before_train_epoch(self, runner: Runner) -> None:
        """Pass the epoch to the data set."""
        for dataset in seeded_datasets(runner.train_loop.dataloader.dataset):
            dataset.set_state(runner.seed, runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Reseed."""
        seed_everything(runner.seed, runner.iter, get_rank())
