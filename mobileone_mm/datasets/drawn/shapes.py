"""The embedded data set: drawn shapes in the layouts that mmdet and mmseg read, made on the spot.

It needs no download, so that a fresh clone can train, evaluate and test on any machine.
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
#: Raise it when the same arguments give other files: older data sets are then made again.
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
    # A bar only where it can move.
    for split, index in track(parts, 'scenes', disable=not sys.stdout.isatty()):
        # A scene depends on its own place only: more images never change the ones there were.
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
    """Raise unless ``root`` is absent or empty or holds nothing but files of an earlier call."""
    if root.exists() and not root.is_dir():
        raise FileExistsError(f'{root} is not a directory; choose another output directory')
    strangers = sorted(set(_files(root)) - set(_read_manifest(root).get('sha256', {})))
    if strangers:
        raise FileExistsError(
            f'{root} holds files that were not made by this generator, for example '
            f'{strangers[0]}; choose another output directory, or move them away')


def _write(root: Path, spec: Dict[str, Any]) -> None:
    """Make the data set beside its place, and move it there when it is whole."""
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

    The same arguments give the same files, byte for byte, with the same versions of numpy, OpenCV
    and Pillow. A data set that is there, whole and made from the same arguments is left as it is;
    one that is damaged or made from others is replaced. An interrupted call leaves nothing but a
    hidden directory, which the next call removes. One call at a time for one directory.

    Args:
        out (str | Path): Where ``coco/``, ``VOCdevkit/VOC2012/``,
            ``ade/ADEChallengeData2016/`` or ``imagenet/`` is made.
        layout (str): 'coco', 'voc', 'ade' or 'imagenet'.
        num_train (int): Number of training images, at least 2.
        num_val (int): Number of validation images, at least 1.
        seed (int): Other seeds give other scenes.

    Returns:
        Path: The ``data_root`` for mmdet, mmseg or mmpretrain.

    Raises:
        ValueError: If an argument is out of range.
        FileExistsError: If files that this generator did not make are in the way.
    """
    spec = _describe(layout, num_train, num_val, seed)
    root = Path(out) / LAYOUTS[layout].folder
    _check_replaceable(root)
    manifest = _read_manifest(root)
    if manifest.get('spec') != spec or manifest.get('sha256') != _digests(root):
        _write(root, spec)
    return root
