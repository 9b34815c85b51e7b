"""Check the windows that a segmentor cuts large images into."""

from typing import Any

from mmengine.config import Config

from .libraries import PreflightError


def check_windows(cfg: Config) -> None:
    """Check that the windows of ``model.test_cfg``, if any, leave no gaps.

    Raises:
        PreflightError: They have no size or stride, or the stride is larger than the window: mmseg
            would fail with a bare assertion at the first image.
    """
    test_cfg: Any = (cfg.get('model') or {}).get('test_cfg') or {}
    if test_cfg.get('mode') != 'slide':
        return
    for name in ('crop_size', 'stride'):
        pair = test_cfg.get(name)
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and min(pair) >= 1):
            raise PreflightError(f"model.test_cfg.mode='slide' needs {name}=(height, width) in "
                                 f'pixels, got {pair!r}')
    if any(step > length for step, length in zip(test_cfg.stride, test_cfg.crop_size)):
        raise PreflightError(
            f'model.test_cfg.stride {tuple(test_cfg.stride)} is larger than crop_size '
            f'{tuple(test_cfg.crop_size)}: pixels between the windows would have no label. Choose '
            'a stride of at most crop_size')
