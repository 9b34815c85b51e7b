"""The published data sets: what to download, where it goes, and what it holds."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Mapping, Optional, Tuple

from .archives import Archive
from .voc_aug import convert_sbd
from .voc_coco import convert_coco, wrong_masks

__all__ = ['DATASETS', 'DatasetSpec']


@dataclass(frozen=True)
class DatasetSpec:
    """The steps that make a data set ready.

    Attributes:
        archives: What to download and unpack.
        convert: Makes the rest from the unpacked folders; takes the data root.
        converted: What ``convert`` must write, like :attr:`Archive.counts`, relative to the root.
        wrong: If the numbers are not known in advance: says what is wrong, in words.
    """

    archives: Tuple[Archive, ...]
    convert: Optional[Callable[[Path], None]] = None
    converted: Mapping[str, int] = field(default_factory=dict)
    wrong: Optional[Callable[[Path], str]] = None


# The MD5 sums of the two tars are those that torchvision checks.
_COCO = 'http://images.cocodataset.org'
_VOC = 'VOCdevkit/VOC2012'

_COCO_TRAIN = Archive('train2017.zip', f'{_COCO}/zips/train2017.zip', 'train2017',
                      'coco/train2017', {'*.jpg': 118287})
_COCO_ANNOTATIONS = Archive(
    'annotations_trainval2017.zip', f'{_COCO}/annotations/annotations_trainval2017.zip',
    'annotations', 'coco/annotations',
    {'instances_train2017.json': 1, 'instances_val2017.json': 1})

DATASETS: Dict[str, DatasetSpec] = {
    'coco': DatasetSpec((
        _COCO_TRAIN,
        Archive('val2017.zip', f'{_COCO}/zips/val2017.zip', 'val2017', 'coco/val2017',
                {'*.jpg': 5000}),
        _COCO_ANNOTATIONS,
    )),
    # The images of COCO that show VOC's classes; configs/segmentation/*_voc12coco.py
    'voc12coco': DatasetSpec((_COCO_TRAIN, _COCO_ANNOTATIONS), convert=convert_coco,
                             wrong=wrong_masks),
    'voc12aug': DatasetSpec(
        (
            Archive('VOCtrainval_11-May-2012.tar',
                    'http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar',
                    _VOC, _VOC,
                    {'JPEGImages/*.jpg': 17125, 'SegmentationClass/*.png': 2913,
                     'ImageSets/Segmentation/train.txt': 1464,
                     'ImageSets/Segmentation/val.txt': 1449},
                    md5='6cd6e144f989b92b3379bac3b3de84fd'),
            Archive('benchmark.tgz',
                    'http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/'
                    'semantic_contours/benchmark.tgz',
                    'benchmark_RELEASE', 'VOCdevkit/VOCaug',
                    {'dataset/cls/*.mat': 11355, 'dataset/train.txt': 8498,
                     'dataset/val.txt': 2857},
                    md5='82b4d87ceb2ed10f6038a1cba92111cb'),
        ),
        convert=convert_sbd,
        # 10,582 training images: VOC's 1,464, and SBD's that are not among VOC's
        converted={f'{_VOC}/SegmentationClassAug/*.png': 11355,
                   f'{_VOC}/ImageSets/Segmentation/aug.txt': 10582 - 1464,
                   f'{_VOC}/ImageSets/Segmentation/trainaug.txt': 10582}),
    'ade20k': DatasetSpec((
        Archive('ADEChallengeData2016.zip',
                'http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip',
                'ADEChallengeData2016', 'ade/ADEChallengeData2016',
                {'images/training/*.jpg': 20210, 'annotations/training/*.png': 20210,
                 'images/validation/*.jpg': 2000, 'annotations/validation/*.png': 2000}),
    )),
}
