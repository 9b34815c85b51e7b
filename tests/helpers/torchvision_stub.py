"""Import mmpretrain although no torchvision fits the installed torch, as for CPU builds.

At import, mmpretrain needs torchvision for transforms and models that no config here uses. This
stand-in only has classes that cannot be instantiated, so any use would fail.
"""

import importlib.machinery
import sys
import types
from contextlib import contextmanager
from enum import Enum

import pytest

NAMES = ('torchvision', 'torchvision.ops', 'torchvision.ops.boxes', 'torchvision.transforms',
         'torchvision.transforms.functional', 'torchvision.transforms.transforms')
InterpolationMode = Enum(
    'InterpolationMode', 'NEAREST BILINEAR BICUBIC BOX HAMMING LANCZOS')


class _Unusable:

    def __init__(self, *args, **kwargs):
        raise RuntimeError('torchvision is only a stand-in here')


class _Module(types.ModuleType):
    __path__ = ()
    InterpolationMode = InterpolationMode

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return sys.modules.get(f'{self.__name__}.{name}', _Unusable)


@contextmanager
def _stand_in():
    for name in NAMES:
        sys.modules[name] = _Module(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
    try:
        yield
    finally:
        for name in NAMES:
            del sys.modules[name]


def import_mmpretrain():
    """mmpretrain, with or without torchvision; skips the test module if it is not installed."""
    import mobileone_mm  # noqa: F401  (first: it supplies mmcv's ops)
    if 'mmpretrain.models' in sys.modules:
        return sys.modules['mmpretrain']
    pytest.importorskip('einops', reason='mmpretrain is not installed (extra: classification)')
    try:
        import torchvision  # noqa: F401
    except ImportError:
        with _stand_in():
            return _import()
    return _import()


def _import():
    mmpretrain = pytest.importorskip(
        'mmpretrain', reason='mmpretrain is not installed (extra: classification)')
    from mmpretrain import datasets, engine, evaluation, models, visualization  # noqa: F401
    return mmpretrain
