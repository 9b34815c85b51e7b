"""Read the pixels of a mask's file, before their values get a meaning."""

import warnings
from pathlib import Path
from typing import Dict, NamedTuple, Tuple, Union

import numpy as np
from PIL import Image

__all__ = ['Mask', 'MaskError', 'displayed_size', 'image_size', 'read_mask', 'to_text']

ORIENTATION = 0x0112  # EXIF's tag
LOSSY = ('JPEG', 'MPO', 'AVIF')
LOSSY_TIFF = ('jpeg', 'tiff_jpeg', 'webp')


class MaskError(ValueError):
    """A mask or an image cannot be read; the message names the file."""


class Mask(NamedTuple):
    """The pixels of a mask's file.

    Attributes:
        mode: Pillow's name of the pixel format.
        values: (H, W), int32: gray values, indices into a palette, or colors as 0xRRGGBB.
        kind: What ``values`` are: ``'gray'``, ``'index'`` or ``'color'``.
        palette: Color of each used index, where the file has a palette.
        lossy: Whether the format changes values when it compresses.
    """

    mode: str
    values: np.ndarray
    kind: str
    palette: Dict[int, int]
    lossy: bool

    @property
    def size(self) -> Tuple[int, int]:
        """Width and height in pixels."""
        return self.values.shape[1], self.values.shape[0]

    def colors(self) -> np.ndarray:
        """(H, W), int32: every pixel as 0xRRGGBB; -1 for gray values above 255."""
        if self.kind == 'color':
            return self.values
        if self.kind == 'index':
            table = np.zeros(256, np.int32)
            table[list(self.palette)] = list(self.palette.values())
            return table[self.values]
        return np.where(self.values < 256, self.values * 0x010101, -1).astype(np.int32)


def read_mask(path: Union[str, Path]) -> Mask:
    """Read a mask without guessing what its values mean.

    An alpha channel is dropped if nothing depends on it: it is constant, or what it hides is black.

    Raises:
        MaskError: The file is missing, damaged or not a picture, or its alpha channel matters.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # from Pillow, about palettes with transparency
        try:
            with Image.open(path) as image:
                return _read(image, path)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            if isinstance(error, MaskError):
                raise
            raise MaskError(f'{path}: cannot be read as a mask ({error})') from error


def _read(image: Image.Image, path: Union[str, Path]) -> Mask:
    mode, lossy = image.mode, _is_lossy(image, path)
    if mode == 'P':
        values = np.asarray(image).astype(np.int32)
        colors = np.asarray(image.getpalette('RGB') or [], np.int32).reshape(-1, 3)
        used = [i for i in np.unique(values).tolist() if i < len(colors)]
        return Mask(mode, values, 'index', {i: _pack(colors[i]) for i in used}, lossy)
    if mode in ('1', 'L') or mode.startswith('I'):
        return Mask(mode, np.asarray(image).astype(np.int32), 'gray', {}, lossy)
    if mode == 'F':
        values = np.asarray(image)
        if not np.array_equal(values, values.astype(np.int32)):
            raise MaskError(f'{path}: holds fractions, such as {values.max():g}: expected labels')
        return Mask(mode, values.astype(np.int32), 'gray', {}, lossy)
    if mode in ('LA', 'La', 'PA', 'RGBA', 'RGBa'):
        pixels = np.asarray(image.convert('RGBA'))
        _check_alpha(pixels, path)
    else:
        pixels = np.asarray(image.convert('RGB'))
    pixels = pixels[..., :3].astype(np.int32)
    if (pixels == pixels[..., :1]).all():
        return Mask(mode, pixels[..., 0], 'gray', {}, lossy)
    return Mask(mode, pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2], 'color', {},
                lossy)


def _is_lossy(image: Image.Image, path: Union[str, Path]) -> bool:
    if image.format == 'TIFF':
        return image.info.get('compression') in LOSSY_TIFF
    if image.format == 'WEBP':  # the name of the chunk of pixels says which of both it is
        with open(path, 'rb') as file:
            return b'VP8L' not in file.read(1 << 16)
    return image.format in LOSSY


def _check_alpha(pixels: np.ndarray, path: Union[str, Path]) -> None:
    colors, alpha = pixels[..., :3], pixels[..., 3]
    hidden = alpha < alpha.max()
    if hidden.any() and colors[hidden].any():
        raise MaskError(f'{path}: has an alpha channel with {len(np.unique(alpha))} values over '
                        'pixels that are not black: save the masks without transparency')
    if hidden.any() and not colors.any():
        raise MaskError(f'{path}: is black, and only its alpha channel differs: save the alpha '
                        'channel as a gray mask')


def image_size(path: Union[str, Path]) -> Tuple[Tuple[int, int], int]:
    """Width and height of an image as stored, and its EXIF orientation (1 to 8).

    Reads the header only.

    Raises:
        MaskError: The file is missing or not a picture.
    """
    try:
        with Image.open(path) as image:
            return image.size, _orientation(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise MaskError(f'{path}: cannot be read as an image ({error})') from error
    except Image.DecompressionBombError as error:
        raise MaskError(f'{path}: too large for one image ({error}): cut it into tiles') from error


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises many errors for damaged EXIF data, which OpenCV ignores
        return 1
    return orientation if orientation in range(1, 9) else 1


def displayed_size(stored: Tuple[int, int], orientation: int) -> Tuple[int, int]:
    """Width and height after EXIF's rotation, as mmcv loads an image."""
    return stored[::-1] if orientation >= 5 else stored


def to_text(value: int, kind: str) -> str:
    """A value as users write it: '#dc143c' or '128'."""
    return f'#{value:06x}' if kind == 'color' else str(value)


def _pack(color: np.ndarray) -> int:
    red, green, blue = color.tolist()
    return red << 16 | green << 8 | blue
