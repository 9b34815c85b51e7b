"""A data set of listed pairs of images and masks."""

import json
from os import path as osp
from typing import List

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS


@DATASETS.register_module()
class ListedSegDataset(BaseSegDataset):
    """mmseg's data set for images and masks with any names and suffixes.

    ``ann_file`` is a JSON list of pairs, ``["a.JPG", "a_mask.png"]``: the path of an image below
    ``data_prefix['img_path']`` and of its mask below ``data_prefix['seg_map_path']``.
    ``tools/custom_seg.py`` writes such lists. All other arguments are mmseg's.
    """

    def load_data_list(self) -> List[dict]:
        """The samples, in the order of the list."""
        with open(self.ann_file, encoding='utf-8') as file:
            pairs = json.load(file)
        images, masks = self.data_prefix['img_path'], self.data_prefix['seg_map_path']
        return [dict(img_path=osp.join(images, image), seg_map_path=osp.join(masks, mask),
                     label_map=self.label_map, reduce_zero_label=self.reduce_zero_label,
                     seg_fields=[]) for image, mask in pairs]
