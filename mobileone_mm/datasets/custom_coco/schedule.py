"""A schedule that fits the number of images."""

from dataclasses import dataclass
from typing import List

__all__ = ['Schedule', 'plan_schedule', 'too_short']

BASE_BATCH_SIZE, BASE_LR = 192, .05  # of the COCO configs
MOST_WARMUP = 4500  # likewise
# ssdlite_mobileone_s0_bccd.py takes 364 iterations; fewer left the heads untrained
FEW_FROM_SCRATCH, FEW_FINE_TUNING = 350, 100


@dataclass(frozen=True)
class Schedule:
    """Lengths in epochs or iterations."""

    epochs: int
    per_epoch: int
    iterations: int
    val_interval: int
    warmup: int
    log_interval: int


def plan_schedule(images: int, epochs: int, batch_size: int) -> Schedule:
    """Shorten what the COCO recipe makes too long for fewer iterations.

    Args:
        images: Number of images in an epoch.
        epochs: Number of epochs.
        batch_size: Images per GPU and iteration.
    """
    per_epoch = -(-images // batch_size)
    iterations = epochs * per_epoch
    return Schedule(epochs, per_epoch, iterations, -(-epochs // 10),
                    min(MOST_WARMUP, max(2, iterations // 10)),
                    min(50, max(1, per_epoch // 4)))


def too_short(schedule: Schedule, from_scratch: bool) -> List[str]:
    """A note if there are too few iterations to learn from."""
    few = FEW_FROM_SCRATCH if from_scratch else FEW_FINE_TUNING
    if schedule.iterations >= few:
        return []
    start = 'random weights' if from_scratch else 'a pre-trained backbone'
    return [f'{schedule.iterations:,} iterations are few when starting from {start}: expect little '
            f'below {few}, which takes --epochs {-(-few // schedule.per_epoch)}']
