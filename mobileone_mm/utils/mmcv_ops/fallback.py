"""Puts a pure-PyTorch ``mmcv._ext`` in place where mmcv's compiled ops are missing."""

import functools
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

from . import nms, with_torchvision

_EXT = 'mmcv._ext'
_SUPPLIED = {
    **{name: getattr(nms, name) for name in ('nms_match', 'softnms')},
    **{name: getattr(with_torchvision, name) for name in with_torchvision.__all__}
}
_HOW_TO_GET_COMPILED_OPS = (
    "To compile mmcv's own: pip uninstall -y mmcv-lite && pip install 'setuptools<81' wheel ninja "
    '&& MMCV_WITH_OPS=1 pip install --no-build-isolation mmcv==2.1.0 (it needs a C++ compiler and '
    'about ten minutes; in a clone, `make test-compiled` does it in .venv-compiled).')


class _FallbackExt(ModuleType):
    """The stand-in module: NMS, RoIAlign, and a clear error for whatever else is called."""

    def __getattr__(self, name: str) -> Any:
        # mmcv asks hasattr() for each of its ops at import time, so that every op must seem to be
        # there. Private and dunder names are asked by inspect, pickle and others: those are not.
        if name.startswith('_'):
            raise AttributeError(f'module {_EXT!r} has no attribute {name!r}')
        return functools.partial(_raise_missing_op, name)


def install_ops_fallback() -> bool:
    """Supply ``mmcv._ext`` if mmcv is installed without its compiled ops.

    ``import mmdet.models`` and ``import mmseg.models`` need ``mmcv._ext``, which mmcv-lite lacks.
    The stand-in holds ``nms``, ``softnms``, ``nms_match`` and RoIAlign, whose results equal the
    compiled ops': torchvision's, where it is installed and works, else this package's own. Calling
    any other op raises NotImplementedError. Nothing is changed where compiled ops are found, where
    ``mmcv._ext`` is loaded already, or where there is no mmcv. mmcv itself is not imported. Call it
    as often as you like.

    Returns:
        Whether this stand-in is the ``mmcv._ext`` in use.
    """
    if _EXT not in sys.modules and _mmcv_lacks_ops():
        sys.modules[_EXT] = _build_fallback()
    return isinstance(sys.modules.get(_EXT), _FallbackExt)


def _mmcv_lacks_ops() -> bool:
    mmcv = find_spec('mmcv')
    if mmcv is None or mmcv.submodule_search_locations is None:
        return False
    return PathFinder.find_spec(_EXT, list(mmcv.submodule_search_locations)) is None


def _build_fallback() -> ModuleType:
    ext = _FallbackExt(_EXT, 'Pure-PyTorch stand-in of mobileone_mm for the compiled ops of mmcv.')
    # mmengine looks the module up with pkgutil.find_loader(), which needs a spec. A spec without a
    # loader tells it the truth: this is no full mmcv (its SyncBatchNorm, for one, is not usable).
    ext.__spec__ = ModuleSpec(_EXT, loader=None)
    for name, function in _SUPPLIED.items():
        setattr(ext, name, function)
    # mmcv's environment report calls these two.
    for name in ('get_compiler_version', 'get_compiling_cuda_version'):
        setattr(ext, name, _not_available)
    return ext


def _not_available() -> str:
    return 'n/a'


def _raise_missing_op(name: str, *args: Any, **kwargs: Any) -> NoReturn:
    raise NotImplementedError(
        f'The op {name!r} of mmcv is not available: this environment has no compiled mmcv ops, and '
        f'mobileone_mm supplies only {", ".join(_SUPPLIED)}. {_HOW_TO_GET_COMPILED_OPS}')
