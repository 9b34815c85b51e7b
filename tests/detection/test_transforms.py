"""SSDCrop: which crops it makes, and what becomes of the boxes."""

import numpy as np
import pytest

pytest.importorskip('mmdet')

from mobileone_mm.detection import SSDCrop  # noqa: E402, I001
from mmdet.structures.bbox import HorizontalBoxes  # noqa: E402

LARGE, SMALL, FAR = [20, 20, 380, 280], [40, 40, 50, 50], [385, 285, 399, 299]


def picture(*boxes, size=(300, 400)):
    """An image whose pixels hold their own y and x."""
    y, x = np.indices(size)
    return dict(img=np.stack((y, x, x), 2), img_shape=size,
                gt_bboxes=HorizontalBoxes(np.array(boxes, np.float32).reshape(-1, 4)),
                gt_bboxes_labels=np.arange(len(boxes)), gt_ignore_flags=np.zeros(len(boxes), bool))


def iou(box, patch):
    """Of two boxes, written out."""
    overlap = [max(0, min(box[i + 2], patch[i + 2]) - max(box[i], patch[i])) for i in (0, 1)]
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, patch)]
    return overlap[0] * overlap[1] / (sum(areas) - overlap[0] * overlap[1])


@pytest.mark.parametrize('least', [.1, .5, .7])
def test_one_box_overlaps_enough(least):
    """The small boxes' IoU with any crop is below 0.02: mmdet's rule would allow no crop."""
    np.random.seed(0)
    crop, boxes, cropped = SSDCrop((0., least)), (LARGE, SMALL, FAR), 0
    for _ in range(40):
        found = crop(picture(*boxes))
        top, left = found['img'][0, 0, :2]
        height, width = found['img_shape']
        patch = (left, top, left + width, top + height)
        assert (found['img'][-1, -1, :2] == (top + height - 1, left + width - 1)).all()
        if (height, width) == (300, 400):
            continue
        cropped += 1
        assert max(iou(box, patch) for box in boxes) >= least
        assert height >= 100 and width >= 120 and .5 <= height / width <= 2
        kept = [i for i, (x0, y0, x1, y1) in enumerate(boxes)
                if patch[0] < (x0 + x1) / 2 < patch[2] and patch[1] < (y0 + y1) / 2 < patch[3]]
        assert found['gt_bboxes_labels'].tolist() == kept and len(found['gt_ignore_flags']) == len(
            kept)
        expected = [[min(max(boxes[i][j] - patch[j % 2], 0), (width, height)[j % 2])
                     for j in range(4)] for i in kept]
        assert found['gt_bboxes'].tensor.tolist() == expected
    assert 10 < cropped < 35


def test_images_that_stay_whole():
    np.random.seed(0)
    for image in (picture(), picture([1, 1, 90, 90], size=(99, 99))):  # no boxes; too small
        for _ in range(20):
            assert SSDCrop()(dict(image))['img'].shape == image['img'].shape


def test_whole_image_must_be_possible():
    with pytest.raises(ValueError, match='must contain 0'):
        SSDCrop((.5, ))
