"""SSDLite for mmdet; the only part of the package that imports mmdet."""

import mobileone_mm  # noqa: F401  (first: it provides mmcv._ext where mmcv-lite is installed)

try:
    import mmdet.models  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in ('mmdet', 'pycocotools', 'shapely', 'terminaltables'):
        raise
    raise ModuleNotFoundError(
        f'mobileone_mm.detection needs {error.name}: pip install "mmdet>=3.3,<3.4"',
        name=error.name) from error

from .cvnets_ssd import CVNetsSSDHead, CVNetsSSDNeck  # noqa: E402
from .ssdlite_head import SSDLiteHead  # noqa: E402
from .transforms import SSDCrop  # noqa: E402

__all__ = ['CVNetsSSDHead', 'CVNetsSSDNeck', 'SSDCrop', 'SSDLiteHead']
