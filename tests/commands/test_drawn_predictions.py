"""The stock visualizers draw the boxes and colors of annotations and predictions."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.visualization import Visualizer
from PIL import Image
from tiny_detector import run, write_config

from mobileone_mm.commands import train_test as cli
from mobileone_mm.datasets.drawn.shapes import make_shapes
from mobileone_mm.folding.models import build_model

SEGMENTOR = 'configs/segmentation/deeplabv3_mobileone_s0_shapes.py'


def read(path: Path) -> np.ndarray:
    """A picture, in RGB."""
    return cv2.imread(str(path))[..., ::-1].astype(int)


def test_a_detectors_validation(tmp_path):
    pytest.importorskip('mmdet')
    from pycocotools.coco import COCO
    config = write_config(tmp_path, num_train=2)
    hook = {'type': 'DetVisualizationHook', 'draw': True, 'interval': 1, 'score_thr': .99}
    assert run(config, tmp_path / 'out', **{'train_cfg.max_epochs': 1, **{
        f'default_hooks.visualization.{name}': value for name, value in hook.items()}}) == 0
    picture, = (read(path) for path in tmp_path.glob('out/*/vis_data/vis_image/*.png'))
    coco = COCO(str(next(tmp_path.glob('**/instances_val2017.json'))))
    first = coco.dataset['images'][0]
    # Before 3.11, matplotlib does not copy a picture's pixels exactly.
    background = Visualizer()
    background.set_image(read(next(tmp_path.glob(f'**/val2017/{first["file_name"]}'))
                              ).astype(np.uint8))
    image = background.get_image().astype(int)
    annotated, predicted = np.split(picture, 2, axis=1)
    assert np.abs(predicted - image).max() <= 2  # nothing is predicted with such a score
    covered = np.zeros(image.shape[:2], bool)
    for annotation in coco.imgToAnns[first['id']]:
        left, top, width, height = map(round, annotation['bbox'])
        bottom, right = top + height, left + width
        lower_left = annotated[bottom - 4:bottom + 5, left:left + width // 2]
        changed = np.abs(lower_left - image[bottom - 4:bottom + 5, left:left + width // 2])
        assert bottom >= len(image) - 4 or (changed.sum(2).max(0) > 30).mean() > .9
        covered[max(top - 24, 0):bottom + 6, max(left - 6, 0):right + 120] = True
    assert covered.any() and np.abs(annotated - image)[~covered].max(initial=0) <= 2


def test_a_segmentors_test(tmp_path, pytestconfig):
    pytest.importorskip('mmseg')
    cfg = Config.fromfile(pytestconfig.rootpath / SEGMENTOR)
    torch.save(build_model(cfg).state_dict(), tmp_path / 'model.pth')
    data = make_shapes(tmp_path / 'data', 'voc', num_train=2, num_val=2)
    folders = drawn, labels = tmp_path / 'drawn', tmp_path / 'labels'
    cli.test([str(pytestconfig.rootpath / SEGMENTOR), str(tmp_path / 'model.pth'), '--work-dir',
              str(tmp_path), '--show-dir', str(drawn), '--out', str(labels),
              '--cfg-options', f'data_root={data}', f'visualizer.name={tmp_path.name}'])
    pictures, predictions = (sorted(folder.glob('**/*.png')) for folder in folders)
    assert len(pictures) == len(predictions) == 2
    palette = np.array(cfg.metainfo.palette)
    for picture, prediction in zip(pictures, predictions):
        name = prediction.stem
        assert name in picture.name
        image = read(data / f'JPEGImages/{name}.jpg')
        maps = data / f'SegmentationClass/{name}.png', prediction
        for half, path in zip(np.split(read(picture), 2, axis=1), maps):
            classes = np.array(Image.open(path))
            known = classes != 255
            expected = image[known] * .2 + palette[classes[known]] * .8
            same = np.abs(half[known] - expected).max(1) <= 2
            assert same.mean() > .8  # the rest are the names and their frames
