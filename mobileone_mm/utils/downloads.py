"""Download checkpoints once, keep them by their whole URL, and check their hash."""

import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import Optional
from urllib.parse import unquote, urlsplit

import torch
from filelock import FileLock

from .errors import CheckpointError

__all__ = ['check_sha256', 'download', 'sha256_in_name']


def download(url: str, sha256: Optional[str] = None) -> Path:
    """The file of a URL in torch's hub cache, downloaded if needed.

    Files of the same name from different addresses do not collide: the folder's name is the hash of
    the whole URL. Processes on one machine download a file once.

    Args:
        url: Address with ``http://`` or ``https://``.
        sha256: As in :func:`check_sha256`. A file that differs is not kept.

    Raises:
        OSError: The download failed.
        CheckpointError: The file is not the expected one.
    """
    name = re.sub(r'[^\w.-]', '_', unquote(PurePosixPath(urlsplit(url).path).name))[-150:]
    folder = Path(torch.hub.get_dir(), 'checkpoints', 'mobileone_mm',
                  hashlib.sha256(url.encode()).hexdigest()[:16])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or 'checkpoint')
    with FileLock(f'{path}.lock'):
        if not path.exists():
            torch.hub.download_url_to_file(url, str(path), progress=os.isatty(2))
        try:
            check_sha256(path, url, sha256)
        except CheckpointError:
            path.unlink()
            raise
    return path


def sha256_in_name(name: str) -> Optional[str]:
    """The first 8 digits of a SHA-256 sum in OpenMMLab's and PyTorch's file names.

    For example ``mobileone-s0_8xb32_in1k_20221110-0bc94952.pth``. Dates do not count.
    """
    found = re.search(r'-([0-9a-f]{8})\.[a-z]+$', PurePosixPath(urlsplit(name).path).name)
    if found is None or re.fullmatch(r'(19|20)\d\d[01]\d[0-3]\d', found[1]):
        return None
    return found[1]


def check_sha256(path: Path, name: str, sha256: Optional[str] = None) -> None:
    """Compare a file with the given hash, or else with the one in its name.

    Args:
        path: The file.
        name: Its path or URL as the user gave it.
        sha256: The sum in hexadecimal digits, or at least the first 8 of them.

    Raises:
        CheckpointError: The file does not match.
        ValueError: ``sha256`` is not such a sum.
    """
    if sha256 is not None and not re.fullmatch('[0-9a-fA-F]{8,64}', str(sha256)):
        raise ValueError(f'sha256={sha256!r}: expected 8 to 64 hexadecimal digits')
    expected = str(sha256).lower() if sha256 else sha256_in_name(name)
    if expected is None:
        return
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for chunk in iter(lambda: file.read(1 << 20), b''):
            digest.update(chunk)
    found = digest.hexdigest()
    if not found.startswith(expected):
        raise CheckpointError(
            f'{name} is damaged or another file: its SHA-256 sum is {found}, expected '
            f'{expected}{"" if sha256 else ", by its name"}. Download it again, or rename it if it '
            'was changed on purpose')
