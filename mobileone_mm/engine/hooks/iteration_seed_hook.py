"""Make every random number of an iteration depend on (seed, iteration) alone."""

from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..resuming.seeded_dataset import seed_everything, seeded_datasets


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Reseed before each iteration, so that a resumed run draws what the uninterrupted one would.

    The model's own randomness (dropout, for instance) then follows from the runner's seed, the
    iteration and the rank; the samples' from :class:`~mobileone_mm.engine.SeededDataset`. The seed
    is the one that mmengine keeps in the checkpoint; it need not be set in the config.
    """

    priority = 'VERY_HIGH'  # before DistSamplerSeedHook and whatever draws random numbers

    def before_train(self, runner: Runner) -> None:
        """Give the sampler the checkpoint's seed; it was built before the checkpoint was read."""
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
