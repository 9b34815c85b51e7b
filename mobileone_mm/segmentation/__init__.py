"""DeepLabV3 for mmsegmentation; the only part of the package that imports mmsegmentation.

It holds the head of the paper's code, the augmentations of its recipe that mmsegmentation lacks, a
data preprocessor that pads images of different sizes at validation, a data set that lists pairs of
images and masks, and a loss whose class weights work with ignored pixels.
"""

import mobileone_mm  # noqa: F401  (first: it provides mmcv._ext where mmcv-lite is installed)

try:
    import mmseg.models  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in ('mmseg', 'ftfy', 'regex'):
        raise
    raise ModuleNotFoundError(
        f'mobileone_mm.segmentation needs {error.name}: pip install "mmsegmentation>=1.2,<1.3" '
        'ftfy regex (mmsegmentation imports the last two without declaring them)',
        name=error.name) from error

from .data_preprocessor import MixedSizeSegDataPreProcessor  # noqa: E402
from .deeplabv3_head import DeepLabV3Head  # noqa: E402
from .listed_dataset import ListedSegDataset  # noqa: E402
from .transforms import RandomGaussianBlur  # noqa: E402
from .weighted_loss import WeightedCrossEntropyLoss  # noqa: E402

__all__ = ['DeepLabV3Head', 'ListedSegDataset', 'MixedSizeSegDataPreProcessor',
           'RandomGaussianBlur', 'WeightedCrossEntropyLoss']
