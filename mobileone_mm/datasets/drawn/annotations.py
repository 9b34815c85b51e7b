"""Write masks of a drawn scene as COCO annotations and as label maps."""
from typing import Any, Dict, List, Optional, Sequence

import contourpy
import cv2
import numpy as np

from .scenes import DrawnObject, Scene


def run_lengths(mask: np.ndarray) -> Dict[str, List[int]]:
    """Encode an (H, W) mask as COCO's uncompressed RLE (column-major, zeros first)."""
    flat = np.concatenate([[0], mask.ravel(order='F'), [0]]).astype(np.int8)
    changes = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], changes, [mask.size]]))
    return dict(counts=counts.tolist(), size=list(mask.shape))


def polygons(mask: np.ndarray) -> Optional[List[List[float]]]:
    """Outline an (H, W) mask as COCO polygons that decode to exactly that mask.

    Returns:
        x and y in turn; pixel i spans i to i + 1. None if the mask has a hole, which COCO's
        polygons cannot express.
    """
    hierarchy = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[1]
    if (hierarchy[0, :, 3] >= 0).any():
        return None
    padded = np.pad(mask, 1).astype(np.float64)
    result = []
    for line in contourpy.contour_generator(z=padded).lines(.5):
        corners = np.asarray(line)[:-1]  # closed: the last point repeats the first
        before, after = corners - np.roll(corners, 1, 0), np.roll(corners, -1, 0) - corners
        turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
        result.append((corners[turns] - .5).ravel().tolist())
    return result


def coco_annotation(obj: DrawnObject, annotation_id: int, image_id: int) -> Dict[str, Any]:
    """One entry of COCO's ``annotations``; the box and the area are those of the visible mask."""
    outline = None if obj.is_crowd else polygons(obj.mask)
    return dict(
        id=annotation_id, image_id=image_id, category_id=obj.category + 1,
        bbox=[float(v) for v in cv2.boundingRect(obj.mask.astype(np.uint8))],
        area=float(np.count_nonzero(obj.mask)), iscrowd=int(obj.is_crowd),
        segmentation=run_lengths(obj.mask) if outline is None else outline)


def label_map(scene: Scene, background: int, classes: Sequence[int], ignored: int) -> np.ndarray:
    """Draw the (H, W) uint8 label map.

    Args:
        scene (Scene): The scene.
        background (int): Label of pixels that no object covers.
        classes (Sequence[int]): Label of each shape class.
        ignored (int): Label of crowds and of the rim around every object, which Pascal VOC
            leaves out of training and evaluation.
    """
    labels = np.full(scene.image.shape[:2], background, np.uint8)
    rim = np.zeros(labels.shape, np.uint8)
    for obj in scene.objects:
        labels[obj.mask] = ignored if obj.is_crowd else classes[obj.category]
        rim[cv2.morphologyEx(obj.mask.astype(np.uint8), cv2.MORPH_GRADIENT,
                             np.ones((3, 3), np.uint8)) > 0] = 1
    labels[rim > 0] = ignored
    return labels
