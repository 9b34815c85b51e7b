"""Match file names that another system wrote to the files on disk."""

import os
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Dict, List, Optional, Set
from urllib.parse import unquote

__all__ = ['repair_names']


def repair_names(content: Dict[str, Any], folder: Path) -> List[str]:
    """Correct file names that another system or program wrote differently.

    The differences may be backslashes, percent-encoding, composed or decomposed accents, case, and
    the path to a folder of the same name as ``folder`` on another machine. A name is only changed
    if it matches exactly one file, and no other image claims that file.

    Args:
        content: The file's content; repaired in place.
        folder: The folder that file names are relative to.
    """
    images = content['images']
    present = _list_folders(folder, {os.path.dirname(image['file_name']) for image in images})
    missing = [image for image in images if image['file_name'] not in present]
    if not missing or not folder.is_dir():
        return []
    files = _list_files(folder)
    found = [_find(image['file_name'], folder.name, files) for image in missing]
    claims = Counter(found)
    claims.update(os.path.normpath(image['file_name']) for image in images)
    repaired = [(image, name) for image, name in zip(missing, found)
                if name is not None and claims[name] == 1]
    if not repaired:
        return []
    example = f'{repaired[0][0]["file_name"]} is {repaired[0][1]}'
    for image, name in repaired:
        image['file_name'] = name
    return [f'names of {len(repaired):,} images differ from those of the files ({example})']


def _list_folders(folder: Path, inner: Set[str]) -> Set[str]:
    """The entries of some folders; much faster than checking each file."""
    return {os.path.join(name, entry) for name in inner if os.path.isdir(folder / name)
            for entry in os.listdir(folder / name)}


def _list_files(folder: Path) -> Dict[str, List[str]]:
    """The files of a folder and those below it, by what their names have in common."""
    files = defaultdict(list)
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.relpath(os.path.join(root, name), folder)
            files[_key(path)].append(path)
    return files


def _find(name: str, folder: str, files: Dict[str, List[str]]) -> Optional[str]:
    """The one file that a name can mean; None if there is none, or several."""
    key = _key(name)
    candidates = files.get(key, [])
    _, mark, below = f'/{key}'.rpartition(f'/{_key(folder)}/')
    if not candidates and mark:
        candidates = files.get(below, [])
    return candidates[0] if len(candidates) == 1 else None


def _key(name: str) -> str:
    return unicodedata.normalize('NFC', unquote(name.replace('\\', '/'))).casefold()
