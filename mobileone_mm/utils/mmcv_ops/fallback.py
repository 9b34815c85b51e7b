"""Supply a pure-PyTorch ``mmcv._ext`` if mmcv's compiled ops are missing."""

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
    """The stand-in module: NMS, RoIAlign, and a clear error for every other op."""

    def __getattr__(self, name: str) -> Any:
        # At import, mmcv asks hasattr() for each of its ops, so every op must seem to exist.
        # inspect, pickle and others ask for private and dunder names, which must not.
        if name.startswith('_'):
            raise AttributeError(f'module {_EXT!r} has no attribute {name!r}')
        return functools.partial(_raise_missing_op, name)


def install_ops_fallback() -> bool:
    """Supply ``mmcv._ext`` if mmcv is installed without its compiled ops.

    ``import mmdet.models`` and ``import mmseg.models`` need ``mmcv._ext``, which mmcv-lite lacks.
    The stand-in holds ``nms``, ``softnms``, ``nms_match`` and RoIAlign, with the results of the
    compiled ops. They are torchvision's if it is installed and works, or else this package's own.
    Calling any other op raises NotImplementedError. Nothing changes if compiled ops are found, if
    ``mmcv._ext`` is already loaded, or if there is no mmcv. mmcv itself is not imported. Repeated
    calls are fine.

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
    # mmengine finds the module with pkgutil.find_loader(), which needs a spec. Without a loader in
    # it, mmengine knows that this is not a full mmcv: its SyncBatchNorm, for example, is unusable.
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
