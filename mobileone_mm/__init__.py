"""MobileOne (arXiv 2206.04040) for mmdet and mmsegmentation.

Importing this package registers the backbone and the hooks in mmengine's root registries, so every
OpenMMLab library finds ``type='MobileOne'``. It never imports mmdet or mmseg: the parts that need
them live in :mod:`mobileone_mm.detection` and :mod:`mobileone_mm.segmentation`.
"""

from .utils import omp  # noqa: F401, I001  (before torch)
from .utils.compat import escape_templates, find_forks, read_all_checkpoints
from .utils.mmcv_ops import install_ops_fallback
from .utils.old_paths import keep_old_paths

# Before anyone imports mmdet.models or mmseg.models: both import mmcv.ops and so mmcv._ext.
install_ops_fallback()
read_all_checkpoints()
escape_templates()
find_forks()
keep_old_paths()

from .backbones import MobileOne, MobileOneBlock  # noqa: E402
from .engine import ResumableEpochLoop  # noqa: E402
from .engine.hooks import ReparameterizeHook  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = ['MobileOne', 'MobileOneBlock', 'ReparameterizeHook', 'ResumableEpochLoop', '__version__']
