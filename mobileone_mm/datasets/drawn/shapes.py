"""The drawn data set: shapes in the layouts that mmdet and mmseg read, drawn on the spot.

It needs no download, so a fresh clone can train, evaluate and test on any machine.
"""
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple, Union

from rich.progress import track

from .layouts import LAYOUTS
from .scenes import Scene, draw_scene

MANIFEST = 'shapes_manifest.json'
#: Raise it when the same arguments give other files: older data sets are then redrawn.
VERSION = 1


def _describe(layout: str, num_train: int, num_val: int, seed: int) -> Dict[str, Any]:
    if layout not in LAYOUTS:
        raise ValueError(f'layout must be one of {", ".join(LAYOUTS)}, got {layout!r}')
    for name, value, least in (('num_train', num_train, 2), ('num_val', num_val, 1),
                               ('seed', seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f'{name} must be an integer of at least {least}, got {value!r}')
    return dict(version=VERSION, layout=layout, num_train=num_train, num_val=num_val, seed=seed)


def _scenes(spec: Dict[str, Any]) -> Iterator[Tuple[str, int, Scene]]:
    parts = [(split, index) for split in ('train', 'val') for index in range(spec[f'num_{split}'])]
    print(f'drawing {len(parts)} scenes in the layout {spec["layout"]!r}')
    # A progress bar, but only in a terminal.
    for split, index in track(parts, 'scenes', disable=not sys.stdout.isatty()):
        # A scene depends only on its index, so more images never change the earlier ones.
        yield split, index, draw_scene((spec['seed'], int(split == 'val'), index))


def _files(root: Path) -> List[str]:
    return sorted(
        path.relative_to(root).as_posix() for path in root.rglob('*')
        if path.is_file() and path.name != MANIFEST)


def _digests(root: Path) -> Dict[str, str]:
    return {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in _files(root)}


def _read_manifest(root: Path) -> Dict[str, Any]:
    try:
        return json.loads((root / MANIFEST).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _check_replaceable(root: Path) -> None:
    """Raise unless ``root`` is absent, empty, or holds only files of an earlier call."""
    if root.exists() and not root.is_dir():
        raise FileExistsError(f'{root} is not a directory; choose another output directory')
    strangers = sorted(set(_files(root)) - set(_read_manifest(root).get('sha256', {})))
    if strangers:
        raise FileExistsError(
            f'{root} holds files that this generator did not write, for example '
            f'{strangers[0]}; choose another output directory, or move them away')


def _write(root: Path, spec: Dict[str, Any]) -> None:
    """Draw the data set next to its final place, and move it there when it is complete."""
    partial, old = (root.with_name(f'.{root.name}.{kind}') for kind in ('partial', 'old'))
    for left_over in (partial, old):
        shutil.rmtree(left_over, ignore_errors=True)
    partial.mkdir(parents=True)
    LAYOUTS[spec['layout']].write(partial, _scenes(spec), spec['num_train'])
    manifest = dict(spec=spec, sha256=_digests(partial))
    with open(partial / MANIFEST, 'w') as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    if root.exists():
        os.replace(root, old)
    os.replace(partial, root)
    shutil.rmtree(old, ignore_errors=True)


def make_shapes(out: Union[str, Path], layout: str, num_train: int = 600, num_val: int = 80,
                seed: int = 0) -> Path:
    """Write the drawn shapes in one layout.

    The same arguments give the same files, byte for byte, with the same versions of NumPy, OpenCV
    and Pillow. A complete data set from the same arguments is left as it is; a damaged one, or one
    from other arguments, is replaced. An interrupted call leaves only a hidden directory, which the
    next call removes. Only one call at a time may write to a directory.

    Args:
        out (str | Path): Where ``coco/``, ``VOCdevkit/VOC2012/``,
            ``ade/ADEChallengeData2016/`` or ``imagenet/`` goes.
        layout (str): 'coco', 'voc', 'ade' or 'imagenet'.
        num_train (int): Number of training images, at least 2.
        num_val (int): Number of validation images, at least 1.
        seed (int): Seed of the scenes.

    Returns:
        The ``data_root`` for mmdet, mmseg or mmpretrain.

    Raises:
        ValueError: If an argument is out of range.
        FileExistsError: If files that this generator did not write are in the way.
    """
    spec = _describe(layout, num_train, num_val, seed)
    root = Path(out) / LAYOUTS[layout].folder
    _check_replaceable(root)
    manifest = _read_manifest(root)
    if manifest.get('spec') != spec or manifest.get('sha256') != _digests(root):
        _write(root, spec)
    return root
