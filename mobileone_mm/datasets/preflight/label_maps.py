"""Check label maps against their images and the config's classes."""

from pathlib import Path
from typing import List

import cv2
import numpy as np

from .source import Source

NUM_SAMPLES = 20  # label maps to read, evenly spaced


def label_map_problems(source: Source) -> List[str]:
    """What is wrong with the data; empty where nothing is."""
    images, maps = source.images, source.folders['seg_map_path']
    if images is None:
        return []
    image_suffix, map_suffix = source.option('img_suffix'), source.option('seg_map_suffix')
    if source.ann_file is not None and source.ann_file.is_file():
        names = [line.strip() for line in source.ann_file.read_text(encoding='utf-8').splitlines()]
    else:
        names = [p.relative_to(images).as_posix()[:-len(image_suffix)]
                 for p in sorted(images.rglob(f'*{image_suffix}'))]
    if not names:
        return [f'{source.ann_file or images}: lists no images']
    problems = []
    for folder, suffix in ((images, image_suffix), (maps, map_suffix)):
        present = {p.relative_to(folder).as_posix() for p in folder.rglob(f'*{suffix}')}
        absent = [name + suffix for name in names if name + suffix not in present]
        if absent:
            problems.append(f'{source.ann_file or images}: {len(absent):,} of {len(names):,} files '
                            f'are not in {folder}, for example {absent[0]}')
    return problems or _value_problems(
        source, [maps / (name + map_suffix) for name in names[::-(-len(names) // NUM_SAMPLES)]])


def _value_problems(source: Source, paths: List[Path]) -> List[str]:
    if source.classes is None:
        return []
    number, ignored = len(source.classes), source.option('ignore_index') or 255
    for path in paths:
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if labels is None:
            return [f'{path}: cannot be read as an image']
        if labels.ndim != 2:
            continue  # a palette image, which mmseg's loader (pillow) reads as indices
        values = np.unique(labels).astype(int)
        if source.option('reduce_zero_label'):
            values = values[values > 0] - 1
        wrong = values[(values >= number) & (values != ignored)]
        if wrong.size:
            return [f'{path}: holds the label {wrong[-1]}, but the config has {number} classes '
                    f'(0 to {number - 1}, {ignored} to ignore)']
    return []
