"""Check the image sizes in a COCO file against the images: missing, swapped, rotated by EXIF."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from .pictures import Picture, Size, read_picture, turn_box

__all__ = ['SizeRepairs', 'repair_sizes']

# How many images to open if all sizes are stated. If one of them is wrong, all are opened.
MOST_SAMPLES = 2000
SLACK = 1.5  # pixels that rounding may push a box past the border


@dataclass
class SizeRepairs:
    """What was changed, and what is unusual but not wrong."""

    repairs: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)


def repair_sizes(content: Dict[str, Any], folder: Path, ignore_exif: bool = False) -> SizeRepairs:
    """Set width and height to those of the loaded images, and rotate boxes of stored pictures.

    An annotation tool that ignores the EXIF orientation writes the size and the boxes of the stored
    picture, while OpenCV loads the picture upright. Such boxes are rotated with the picture.

    Args:
        content: The file's content; repaired in place.
        folder: The folder that file names are relative to. Missing files are skipped.
        ignore_exif: Whether the loader leaves images as stored.

    Raises:
        ValueError: A size differs from the image's, or boxes disagree on the orientation.
    """
    images = content['images']
    stated = [_stated(image) for image in images]
    result = SizeRepairs(_write_numbers(images, stated))
    step = -(-len(images) // MOST_SAMPLES)
    pictures = _look(images, [i for i, size in enumerate(stated) if size is None or i % step == 0],
                     folder, ignore_exif)
    if step > 1 and any(stated[i] not in (None, p.loaded) for i, p in pictures.items()):
        pictures = _look(images, range(len(images)), folder, ignore_exif)
    odd = {i: p for i, p in pictures.items() if stated[i] != p.loaded or p.orientation > 1}
    if odd:
        boxes = _boxes_by_image(content, {images[i]['id'] for i in odd})
        views = [View(images[i], stated[i], picture, boxes[images[i]['id']])
                 for i, picture in odd.items()]
        _correct_sizes(views, result)
        _turn_boxes(views, result)
    return result


def _stated(image: Dict[str, Any]) -> Optional[Size]:
    try:
        width, height = (float(image[key]) for key in ('width', 'height'))
    except (KeyError, TypeError, ValueError):
        return None
    if not (width >= 1 and height >= 1 and width.is_integer() and height.is_integer()):
        return None
    return int(width), int(height)


def _write_numbers(images: List[Dict[str, Any]], stated: List[Optional[Size]]) -> List[str]:
    """Make sizes integers. For a string that counts as a repair; for 64.0 it does not."""
    strings = 0
    for image, size in zip(images, stated):
        if size is not None:
            strings += isinstance(image['width'], str) or isinstance(image['height'], str)
            image['width'], image['height'] = size
    return [f'width or height of {strings:,} images are strings'] if strings else []


def _look(images: List[Dict[str, Any]], which: Any, folder: Path,
          ignore_exif: bool) -> Dict[int, Picture]:
    pictures = {}
    for i in which:
        path = folder / images[i]['file_name']
        if path.is_file() and path.stat().st_size:  # all others are reported together
            pictures[i] = read_picture(path, ignore_exif)
    return pictures


class View(NamedTuple):
    """An image: what the annotation file says about it, and what the image file says."""

    image: Dict[str, Any]
    stated: Optional[Size]
    picture: Picture
    boxes: List[Dict[str, Any]]  # annotations

    def fits(self, size: Optional[Size]) -> bool:
        """Whether no box reaches beyond a picture of this size."""
        return size is not None and all(
            x + w <= size[0] + SLACK and y + h <= size[1] + SLACK
            for x, y, w, h in (a['bbox'] for a in self.boxes))


def _correct_sizes(views: List[View], result: SizeRepairs) -> None:
    missing = swapped = 0
    for image, stated, picture, _ in views:
        width, height = picture.loaded
        if stated not in (None, (width, height), (height, width)):
            raise ValueError(
                f'{image["file_name"]} is listed as {stated}, but the file is {width, height} '
                '(width, height): boxes for images of another size would be wrong. Use the images '
                'that were annotated, or export again')
        missing += stated is None
        swapped += stated not in (None, (width, height))
        image['width'], image['height'] = width, height
    if missing:
        result.repairs.append(f'width and height of {missing:,} images are missing or not valid '
                              '(taken from the files)')
    if swapped:
        result.repairs.append(f'width and height of {swapped:,} images are swapped')


def _turn_boxes(views: List[View], result: SizeRepairs) -> None:
    """Decide whether boxes belong to the stored or the upright picture, and rotate the former."""
    stored: List[View] = []
    upright: List[View] = []
    open_: List[View] = []
    for view in views:
        picture = view.picture
        if picture.orientation == 1:
            if view.stated != picture.loaded and view.fits(view.stated) and not view.fits(
                    picture.loaded):
                raise ValueError(f'{view.image["file_name"]} was rotated after it was annotated: '
                                 f'its boxes fit {view.stated}, the file is {picture.loaded} '
                                 '(width, height)')
        elif picture.orientation < 5 or picture.stored == picture.loaded:
            open_.append(view)  # upside down or mirrored: the size says nothing
        elif view.stated == picture.loaded:
            upright.append(view)
        elif view.fits(picture.stored) != view.fits(picture.loaded):
            (stored if view.fits(picture.stored) else upright).append(view)
        else:
            (open_ if view.stated is None else stored).append(view)
    contrary = [view for view in upright if view.stated == view.picture.stored]
    only_stored = [view for view in stored if not view.fits(view.picture.loaded)]
    if contrary and only_stored:
        raise ValueError(
            f'EXIF rotates its images. Boxes of {only_stored[0].image["file_name"]} fit only the '
            f'picture as stored, those of {contrary[0].image["file_name"]} only the upright one: '
            'save the images upright and export again')
    if stored and not upright:
        stored, open_ = stored + open_, []
    elif contrary:
        stored = []
    for view in stored:
        _turn(view)
    if stored:
        result.repairs.append(f'boxes of {len(stored):,} images belong to the picture as stored, '
                              'which EXIF rotates (boxes rotated with it)')
    if open_:
        result.notes.append(f'{len(open_):,} images hold an EXIF orientation: their boxes are taken'
                            ' to be those of the upright picture, as viewers show it')


def _turn(view: View) -> None:
    for annotation in view.boxes:
        annotation['bbox'] = turn_box(annotation['bbox'], *view.picture)
        if annotation.get('segmentation'):
            annotation['segmentation'] = _turn_outline(annotation['segmentation'], view.picture)


def _turn_outline(outline: Any, picture: Picture) -> List[List[float]]:
    if not isinstance(outline, list):
        raise ValueError('RLE masks on images that EXIF rotates: save the images upright first')
    return [[value for x, y in zip(polygon[::2], polygon[1::2])
             for value in turn_box([x, y, 0, 0], *picture)[:2]] for polygon in outline]


def _boxes_by_image(content: Dict[str, Any], ids: set) -> Dict[Any, List[Dict[str, Any]]]:
    found = defaultdict(list)
    for annotation in content['annotations']:
        if annotation['image_id'] in ids:
            found[annotation['image_id']].append(annotation)
    return found
