"""Distillation; needs mmpretrain (extra: classification)."""

try:
    import mmpretrain  # noqa: F401
except ImportError as error:
    raise ImportError(
        f'mobileone_mm.classification needs mmpretrain, which cannot be imported here ({error}): '
        'pip install "mobileone-mm[classification]", with a torchvision that fits the installed '
        'torch') from error

from .distilled_classifier import DistilledClassifier

__all__ = ['DistilledClassifier']
