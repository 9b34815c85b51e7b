"""The drawing itself: determinism, visible masks, and their encodings."""
import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mobileone_mm.datasets.drawn.annotations import (
    coco_annotation,
    label_map,
    polygons,
    run_lengths,
)
from mobileone_mm.datasets.drawn.scenes import CLASSES, MIN_VISIBLE, SIDES, draw_scene

SCENES = [draw_scene((7, 0, i)) for i in range(40)]


def test_equal_seeds_give_equal_scenes_and_others_do_not():
    again = draw_scene((7, 0, 3))
    assert np.array_equal(again.image, SCENES[3].image)
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(again.objects, SCENES[3].objects))
    other = draw_scene((8, 0, 3))
    assert other.image.shape != again.image.shape or not np.array_equal(other.image, again.image)


def test_scenes_vary_in_class_size_background_and_overlap():
    objects = [obj for scene in SCENES for obj in scene.objects]
    areas = [np.count_nonzero(obj.mask) for obj in objects]
    assert {obj.category for obj in objects} == set(range(len(CLASSES)))
    assert len({scene.background for scene in SCENES}) > 3
    assert len({scene.image.shape for scene in SCENES}) > 30
    assert min(areas) < 32**2 and max(areas) > 96**2  # COCO's small and large
    assert any(obj.is_crowd for obj in objects)


def test_no_pixel_belongs_to_two_objects():
    for scene in SCENES:
        assert sum(obj.mask.astype(int) for obj in scene.objects).max() == 1
        assert SIDES[0] <= min(scene.image.shape[:2]) and max(scene.image.shape) <= SIDES[1]


def test_later_objects_hide_parts_of_earlier_ones_but_never_most_of_them():
    hidden = []
    for scene in SCENES:
        for obj in scene.objects:
            if CLASSES[obj.category] == 'square' and not obj.is_crowd:  # convex: nothing missing
                points = cv2.findNonZero(obj.mask.astype(np.uint8))
                hidden.append(1 - obj.mask.sum() / cv2.contourArea(cv2.convexHull(points)))
    assert max(hidden) > .15  # more than the raster explains
    assert max(hidden) < 1 - MIN_VISIBLE + .05


def test_polygons_and_run_lengths_decode_to_exactly_the_mask():
    kinds = set()
    for scene in SCENES:
        for obj in scene.objects:
            outline = polygons(obj.mask)
            kinds.add(type(outline))
            height, width = obj.mask.shape
            if outline is not None:
                parts = coco_mask.frPyObjects(outline, height, width)
                assert np.array_equal(coco_mask.decode(coco_mask.merge(parts)), obj.mask)
            encoded = coco_mask.frPyObjects(run_lengths(obj.mask), height, width)
            assert np.array_equal(coco_mask.decode(encoded), obj.mask)
    assert kinds == {list, type(None)}  # both cases occurred


@pytest.mark.parametrize('corner', [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_run_lengths_of_a_mask_that_starts_or_ends_with_an_object(corner):
    mask = np.zeros((5, 7), bool)
    mask[corner] = True
    encoded = coco_mask.frPyObjects(run_lengths(mask), 5, 7)
    assert np.array_equal(coco_mask.decode(encoded), mask)


def test_box_and_area_are_those_of_the_visible_mask():
    for obj in SCENES[0].objects:
        entry = coco_annotation(obj, 1, 1)
        rows, columns = np.nonzero(obj.mask)
        assert entry['bbox'] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert entry['area'] == obj.mask.sum()


def test_label_map_ignores_crowds_and_rims():
    scene = next(s for s in SCENES if any(obj.is_crowd for obj in s.objects))
    labels = label_map(scene, 0, range(1, 7), 255)
    for obj in scene.objects:
        found = set(np.unique(labels[obj.mask]))
        assert found <= {255} if obj.is_crowd else found <= {255, obj.category + 1}
        assert 255 in found  # the rim
    assert set(np.unique(labels[~np.any([obj.mask for obj in scene.objects], 0)])) == {0, 255}
