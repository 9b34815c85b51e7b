"""Draw the pictures of :class:`RunPicturesHook`."""

import json
import math
from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

import cv2
import numpy as np
from torch import Tensor

from ..utils.pictures import write_picture

__all__ = ['draw_batch', 'draw_learning_curve', 'read_scalars']

TILE = 256  # longer side of an image in a contact sheet, in pixels
BACKGROUND = 32  # gray level between images
Curves = Dict[str, Dict[float, float]]


def draw_batch(batch: Dict[str, Any], path: Union[str, Path], max_images: int = 16) -> None:
    """Write a contact sheet of a batch from the data loader, before normalization.

    Args:
        batch: 'inputs', B images (3, H, W), BGR, 0 to 255, and 'data_samples' with boxes in pixels
            (mmdet), a label map (mmseg) or neither.
        path: The PNG to write.
        max_images: Maximum number of images.
    """
    samples = batch.get('data_samples') or [None] * len(batch['inputs'])
    tiles = [_tile(image, sample)
             for image, sample in list(zip(batch['inputs'], samples))[:max_images]]
    columns = math.ceil(math.sqrt(len(tiles)))
    sheet = np.full((math.ceil(len(tiles) / columns) * TILE, columns * TILE, 3), BACKGROUND,
                    np.uint8)
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        height, width = tile.shape[:2]
        sheet[row * TILE:row * TILE + height, column * TILE:column * TILE + width] = tile
    write_picture(path, sheet)


def draw_learning_curve(work_dir: Union[str, Path], path: Union[str, Path]) -> None:
    """Write losses and learning rate over iterations, and metrics over epochs or iterations.

    Args:
        work_dir: Directory of the runs; a resumed run continues in the same picture.
        path: The PNG to write; it is not written if nothing was logged.
    """
    train, metrics = read_scalars(work_dir)
    if not train and not metrics:
        return
    from ..utils.plots import new_figure, save_figure  # matplotlib is only needed to draw
    figure = new_figure(11, 4)
    left, right = figure.subplots(1, 2)
    rates = left.twinx()
    for name, curve in train.items():
        axis = rates if name == 'lr' else left
        axis.plot(*_points(curve), label=name, lw=2 if name == 'loss' else 1,
                  **(dict(color='gray', ls=':') if name == 'lr' else {}))
    for name, curve in metrics.items():
        right.plot(*_points(curve), label=name, marker='.')
    left.set(xlabel='iteration', ylabel='loss')
    rates.set_ylabel('learning rate')
    right.set(xlabel='epoch or iteration of the validation', ylabel='metric')
    for axis in (left, right):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7)
        axis.grid(alpha=.3)
    save_figure(figure, path)


def read_scalars(work_dir: Union[str, Path]) -> Tuple[Curves, Curves]:
    """The logs of all runs in a directory; later runs replace the steps of earlier ones.

    Returns:
        Losses and learning rate, and metrics: name -> step -> value. Values that are not finite are
        left out.
    """
    train: Curves = {}
    metrics: Curves = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8').splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # the last line of a killed run
                continue
            step = entry.pop('step', None)
            is_train = 'iter' in entry or 'lr' in entry
            for name, value in entry.items():
                wanted = name == 'lr' or 'loss' in name if is_train else name not in (
                    'time', 'data_time')
                if step is not None and wanted and isinstance(value, (int, float)) and (
                        math.isfinite(value)):
                    (train if is_train else metrics).setdefault(name, {})[step] = value
    return train, metrics


def _points(curve: Dict[float, float]) -> Tuple[List[float], List[float]]:
    steps = sorted(curve)
    return steps, [curve[step] for step in steps]


def _tile(image: Tensor, sample: Any) -> np.ndarray:
    """(H, W, 3), BGR, at most :data:`TILE` pixels long, with its annotations."""
    picture = np.ascontiguousarray(image.cpu().permute(1, 2, 0).numpy().clip(0, 255), np.float32)
    picture = picture.astype(np.uint8)
    scale = TILE / max(picture.shape[:2])
    size = tuple(max(1, round(side * scale)) for side in picture.shape[1::-1])
    tile = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    if tile.ndim == 2:
        tile = cv2.cvtColor(tile, cv2.COLOR_GRAY2BGR)
    if 'gt_sem_seg' in (sample if sample is not None else ()):
        labels = sample.gt_sem_seg.data.squeeze(0).cpu().numpy().astype(np.uint8)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        # Half transparent; the background stays, ignored pixels become white.
        colors = np.array([_color(label) for label in range(255)] + [(255, 255, 255)], np.uint8)
        shown = labels > 0
        tile[shown] = (tile[shown] // 2 + colors[labels[shown]] // 2)
    elif 'gt_instances' in (sample if sample is not None else ()):
        instances = sample.gt_instances
        boxes = getattr(instances.bboxes, 'tensor', instances.bboxes).cpu().numpy() * scale
        for (x1, y1, x2, y2), label in zip(boxes.round().astype(int).tolist(),
                                           instances.labels.tolist()):
            cv2.rectangle(tile, (x1, y1), (x2, y2), _color(label + 1), 2)
    return tile


def _color(label: int) -> Tuple[int, int, int]:
    """Distant hues for neighboring labels."""
    hue = np.array([[[label * 67 % 180, 255, 255]]], np.uint8)
    blue, green, red = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red
