"""Check label maps against their images and the config's classes."""

import os
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

from ..custom_seg.masks import to_text
from ..custom_seg.pairing import PICTURES, Pair
from ..custom_seg.survey import Look, look_at, parallel
from .source import Source

MOST_LOOKS = 2000  # how many label maps are read; if there are more, evenly spaced ones
CUSTOM_SEG = 'tools/custom_seg.py converts such masks'


def label_map_problems(source: Source, training: bool) -> List[str]:
    """What is wrong with the data; empty if nothing is.

    Args:
        source: A data set of mmsegmentation.
        training: Whether it is for training.
    """
    images, maps = source.images, source.folders['seg_map_path']
    if images is None:
        return []
    if source.classes is None:
        return [f'the data set of {images} has no names of classes: set metainfo=dict(classes=('
                "'background', ...)) in each data set of the config"]
    reduces = bool(source.option('reduce_zero_label'))
    if reduces and source.classes[0].lower() == 'background':
        return [f'the data set of {images}: reduce_zero_label=True ignores label 0 and makes label '
                f'1 the first class, but the first class is {source.classes[0]!r}: set '
                'reduce_zero_label=False, or leave the background out of the classes']
    samples = source.samples()
    if samples is None:
        return []
    problems = _suffix_problems(source, samples)
    if not samples:
        return problems or [f'{source.ann_file or images}: lists no images']
    for key, folder in (('img_path', images), ('seg_map_path', maps)):
        problems += _missing(source, [sample[key] for sample in samples], folder)
    if problems or not source.loads_labels():
        return problems
    return _label_problems(source, samples, training)


def _missing(source: Source, paths: List[str], folder: Path) -> List[str]:
    present: Dict[str, Set[str]] = {}
    for parent in {os.path.dirname(path) for path in paths}:
        present[parent] = set(os.listdir(parent)) if os.path.isdir(parent) else set()
    absent = [path for path in paths
              if os.path.basename(path) not in present[os.path.dirname(path)]]
    if not absent:
        return []
    others = sorted(present[os.path.dirname(absent[0])])
    there = f'; there is {others[0]}' if others else ''
    return [f'{source.ann_file or source.images}: {len(absent):,} of {len(paths):,} files are not '
            f'in {folder}, for example {os.path.relpath(absent[0], folder)}{there}. The suffixes '
            f'are img_suffix={source.option("img_suffix")!r} and seg_map_suffix='
            f'{source.option("seg_map_suffix")!r}']


def _suffix_problems(source: Source, samples: List[Dict[str, Any]]) -> List[str]:
    """Pictures that have a label map but not the suffix of images."""
    images, maps = source.images, source.folders['seg_map_path']
    suffix, map_suffix = source.option('img_suffix'), source.option('seg_map_suffix')
    if images is None or source.ann_file is not None or not suffix:
        return []
    listed = {os.path.normpath(sample['img_path']) for sample in samples}
    others = [path for path in sorted(images.rglob('*')) if path.suffix.lower() in PICTURES
              and not path.name.startswith('.') and os.path.normpath(path) not in listed]
    if samples:
        others = [path for path in others if path.name.lower().endswith(suffix.lower()) or (
            images != maps
            and (maps / path.relative_to(images).parent / (path.stem + map_suffix)).is_file())]
    if not others:
        return []
    return [f'{images}: img_suffix={suffix!r} finds {len(samples):,} images and leaves out '
            f'{len(others):,} pictures with another suffix, for example {others[0].name}: rename '
            'them, or write a config with tools/custom_seg.py, which takes any suffix']


def _label_problems(source: Source, samples: List[Dict[str, Any]], training: bool) -> List[str]:
    step = -(-len(samples) // MOST_LOOKS)
    pairs = [Pair('', Path(sample['img_path']), Path(sample['seg_map_path']))
             for sample in samples[::step]]
    counts: Counter = Counter()
    for look in parallel(look_at, pairs, progress=False):
        problem = _look_problem(source, look, samples[0].get('label_map'))
        if problem:
            return [problem]
        counts.update(look.values)
    return _class_problems(source, counts, training)


def _look_problem(source: Source, look: Look, label_map: Optional[Dict[int, int]]) -> str:
    if look.problem:
        return look.problem
    if look.fit:
        return (f'{look.pair.mask}: differs in size from its image {look.pair.image}, which has '
                f'{"x".join(map(str, look.image_size))} pixels, and mmsegmentation does not resize '
                f'it: {CUSTOM_SEG}')
    if look.kind == 'color' or look.mode not in ('1', 'L', 'P') and not look.mode.startswith('I'):
        colors = ', '.join(to_text(value, look.kind) for value in list(look.values)[:5])
        return (f'{look.pair.mask}: not a label map but a picture of mode {look.mode} with the '
                f'values {colors}: {CUSTOM_SEG}')
    if look.lossy:
        return (f'{look.pair.mask}: was compressed lossily, which changes labels: save label '
                f'maps as PNG; or {CUSTOM_SEG}')
    number, ignored = len(source.classes or ()), _ignore_index(source)
    labels = {value: _label(value, source, label_map) for value in look.values}
    wrong = [value for value, label in labels.items() if label >= number and label != ignored]
    if wrong:
        reduced = ' (0 to ignore)' if source.option('reduce_zero_label') else ''
        first = int(bool(reduced))
        return (f'{look.pair.mask}: holds the label {max(wrong)}, but the config has {number} '
                f'classes ({first} to {number - 1 + first}, {ignored} to ignore{reduced}): '
                f'correct the label map or the classes; or {CUSTOM_SEG}')
    return ''


def _label(value: int, source: Source, label_map: Optional[Dict[int, int]]) -> int:
    """The label that mmsegmentation's loader makes from a value."""
    if source.option('reduce_zero_label') and value < 256:
        value = 255 if value in (0, 255) else value - 1
    return (label_map or {}).get(value, value)


def _class_problems(source: Source, counts: Counter, training: bool) -> List[str]:
    maps, ignored = source.folders['seg_map_path'], _ignore_index(source)
    if len(source.classes or ()) == 2 and set(counts) == {0, 255} and ignored == 255:
        return [f'{maps}: holds the values 0 and 255 only, and 255 is ignored by the loss and '
                f'the metrics, so {source.classes[1]!r} never occurs: '  # type: ignore[index]
                f'label it 1 instead of 255; {CUSTOM_SEG}']
    found = set(counts) - {ignored} - ({0} if source.option('reduce_zero_label') else set())
    if training and len(source.classes or ()) > 1 and len(found) < 2:
        what = f'only the label {min(found)} occurs' if found else 'every pixel is ignored'
        return [f'{maps}: {what}, so there is nothing to learn']
    return []


def _ignore_index(source: Source) -> int:
    given = source.option('ignore_index')
    return 255 if given is None else given
