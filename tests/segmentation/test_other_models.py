"""MobileOne in mmseg's stock segmentors: the configs in docs/other_models.md."""

import pytest

pytest.importorskip('mmseg')

import mobileone_mm  # noqa: E402, F401, I001
import torch  # noqa: E402
from doc_configs import doc_configs, load, train_and_fold  # noqa: E402
from mmengine.model import revert_sync_batchnorm  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.structures import PixelData  # noqa: E402
from mmseg.registry import MODELS  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

CONFIGS = doc_configs('mmseg')


def make_batch(num_images, size, num_classes):
    samples = []
    for _ in range(num_images):
        labels = torch.randint(num_classes, (1, size, size))
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
        sample.set_metainfo(dict(img_shape=(size, size), ori_shape=(size, size)))
        samples.append(sample)
    images = [torch.randint(256, (3, size, size), dtype=torch.uint8) for _ in samples]
    return dict(inputs=images, data_samples=samples)


def test_all_are_documented():
    assert list(CONFIGS) == ['pspnet', 'deeplabv3plus', 'upernet', 'mobilenet_v3']


@pytest.mark.parametrize('name', CONFIGS)
def test_trains_predicts_and_folds(name, tmp_path, randomize):
    cfg = load(CONFIGS[name], tmp_path)
    init_default_scope('mmseg')
    # mmseg's LR-ASPP pools 49x49 cells of stride 8 for any image
    num_images, size = (1, 392) if name == 'mobilenet_v3' else (2, 32)
    cfg.model.data_preprocessor.size = (size, size)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    batch = make_batch(num_images, size, cfg.model.decode_head.num_classes)
    for a, b in train_and_fold(model, batch, True, randomize):
        assert b.pred_sem_seg.data.shape == (1, size, size)
        assert (a.pred_sem_seg.data == b.pred_sem_seg.data).float().mean() > .99
