"""What MobileOne needs of mmsegmentation; the only part of the package that imports it.

DeepLabV3 is mmsegmentation's own: this adds a data preprocessor that pads a batch of images of
different sizes at validation, a data set that lists pairs of images and masks, and a loss whose
class weights go together with ignored pixels.
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
from .listed_dataset import ListedSegDataset  # noqa: E402
from .weighted_loss import WeightedCrossEntropyLoss  # noqa: E402

__all__ = ['ListedSegDataset', 'MixedSizeSegDataPreProcessor', 'WeightedCrossEntropyLoss']
