"""Prepare pictures with a config's test pipeline."""

from pathlib import Path
from typing import Any, List, Union

import cv2
import mmcv
import numpy as np
from mmcv.transforms import Compose
from mmengine.config import Config

from ..utils.libraries import TASKS, class_names
from .errors import ExportError

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


class Samples:
    """Turns pictures into model inputs with a config's test pipeline.

    Args:
        cfg: A complete config.
    """

    def __init__(self, cfg: Config) -> None:
        dataset = cfg.test_dataloader.dataset
        transforms = [transform for transform in dataset.pipeline if
                      pipeline_kind(transform) not in ('LoadAnnotations', 'LoadImageFromFile')]
        self.task = TASKS[cfg.default_scope]
        self.pipeline = Compose(transforms)
        self.classes = class_names(dataset)

    def __call__(self, picture: Union[str, Path, np.ndarray]) -> dict:
        """Make a batch of one image: 'inputs' and 'data_samples'.

        Args:
            picture: A path, or a picture (H, W, 3), BGR, uint8.

        Raises:
            ExportError: There is no such picture, or it cannot be decoded.
        """
        if isinstance(picture, np.ndarray):
            path, image = '', picture
        else:
            path, image = str(picture), read_picture(picture)
        packed = self.pipeline(dict(
            img=image, img_path=path, img_id=0, img_shape=image.shape[:2],
            ori_shape=image.shape[:2], scale_factor=(1., 1.), reduce_zero_label=False,
            seg_fields=[]))
        return dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])


def list_pictures(folder: Union[str, Path]) -> List[Path]:
    """The pictures in a directory, sorted by name, without hidden files such as macOS' ``._a.jpg``.

    Raises:
        ExportError: There are no pictures.
    """
    found = sorted(path for path in Path(folder).glob('*')
                   if path.suffix.lower() in PICTURES and not path.name.startswith('.')
                   and not path.is_dir())
    if not found:
        raise ExportError(f'no pictures ({", ".join(PICTURES)}) in {folder}')
    return found


def read_picture(path: Union[str, Path]) -> np.ndarray:
    """Read a picture (H, W, 3), BGR, uint8.

    Raises:
        ExportError: There is no such picture, or it cannot be decoded.
    """
    if not Path(path).is_file():
        raise ExportError(f'there is no image {path}')
    try:
        picture = mmcv.imread(str(path))
    except cv2.error:  # the file is empty
        picture = None
    if picture is None:
        raise ExportError(f'{path} cannot be read as an image')
    return picture


def pipeline_kind(transform: Any) -> str:
    """The name of a transform's type, without the library's prefix."""
    return transform['type'].split('.')[-1]
