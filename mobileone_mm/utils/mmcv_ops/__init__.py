"""A compile-free stand-in for ``mmcv._ext``, for environments with mmcv-lite."""

from .fallback import install_ops_fallback

__all__ = ['install_ops_fallback']
