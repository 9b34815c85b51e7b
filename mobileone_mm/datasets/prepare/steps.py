"""Check what is on disk, say what is missing, and run the steps that are left."""

from pathlib import Path
from typing import Callable, Optional, Union

from .archives import DOWNLOADS, Archive, unpack, wrong_counts
from .catalog import DATASETS, DatasetSpec

Say = Callable[[str], None]


def prepare(name: str,
            data_root: Union[str, Path] = 'data',
            check_only: bool = False,
            say: Say = print,
            spec: Optional[DatasetSpec] = None) -> bool:
    """Check, unpack and convert a data set. Nothing is downloaded.

    Args:
        name: 'coco', 'voc12aug', 'voc12coco' or 'ade20k'.
        data_root: The folder of all data. Defaults to 'data', where the configs look.
        check_only: Whether to only report. Defaults to False.
        say: Called with each line of the report. Defaults to ``print``.
        spec: Replaces the published ``DATASETS[name]``; for tests.

    Returns:
        Whether the data set is ready for training.

    Raises:
        ValueError: ``name`` is unknown.
        ArchiveError: An archive is damaged or is not the published one.
    """
    if spec is None and name not in DATASETS:
        raise ValueError(f'unknown data set {name!r}: expected one of {", ".join(DATASETS)}')
    spec, root = spec or DATASETS[name], Path(data_root)
    unpacked = [_unpack_step(archive, root, check_only, say) for archive in spec.archives]
    return all(unpacked) and _convert_step(spec, root, check_only, say)


def _unpack_step(archive: Archive, root: Path, check_only: bool, say: Say) -> bool:
    target = root / archive.target
    if target.exists():
        wrong = wrong_counts(target, archive.counts)
        say(f'{target}: ' + (f'INCOMPLETE ({wrong}): move it away and run this again to unpack '
                             f'{archive.name}' if wrong else f'ready ({_describe(archive)})'))
        return not wrong
    path = archive.find(root)
    if path is None:
        place = root / DOWNLOADS / archive.name
        say(f'{target}: MISSING: download {archive.url} to {place}, for example with\n'
            f"  curl -L -C - --create-dirs -o '{place}' '{archive.url}'\n  and run this again")
        return False
    if check_only:
        say(f'{target}: NOT UNPACKED yet from {path}: run this without --check-only')
        return False
    unpack(archive, root)
    say(f'{target}: unpacked ({_describe(archive)})')
    return True


def _convert_step(spec: DatasetSpec, root: Path, check_only: bool, say: Say) -> bool:
    if spec.convert is None:
        return True
    wrong = _wrong(spec, root)
    if wrong and check_only:
        say(f'NOT CONVERTED yet ({wrong}): run this without --check-only')
        return False
    if wrong:
        spec.convert(root)
        wrong = _wrong(spec, root)
    say(f'conversion: WRONG ({wrong}): move these away and run this again' if wrong else
        'conversion: ready' + ''.join(f', {Path(k).name if k.endswith(".txt") else k} {n:,}'
                                      for k, n in spec.converted.items()))
    return not wrong


def _wrong(spec: DatasetSpec, root: Path) -> str:
    return wrong_counts(root, spec.converted) or (spec.wrong(root) if spec.wrong else '')


def _describe(archive: Archive) -> str:
    return ', '.join(f'{pattern} {number:,}' for pattern, number in archive.counts.items())
