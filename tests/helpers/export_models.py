"""Small models with random weights and statistics, but predictions far from ties."""


import mmcv
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from paths import ROOT
from torch.nn.modules.batchnorm import _BatchNorm

from mobileone_mm.folding.models import build_model
from mobileone_mm.folding.verify import textbook

CONFIGS = ROOT / 'configs'
DETECTION = CONFIGS / 'detection/ssdlite_mobileone_s0_bccd.py'
SEGMENTATION = CONFIGS / 'segmentation/deeplabv3_mobileone_s0_nuclei.py'


def config(path, size=None):
    """One of our configs, with one branch per block and without initial weights."""
    cfg = Config.fromfile(path)
    cfg.model.backbone.update(num_conv_branches=1, init_cfg=None)
    if size:
        for transform in cfg.test_dataloader.dataset.pipeline:
            if transform.type == 'Resize':
                transform.scale = size
    return cfg


def images(batch, height, width, seed=1):
    """Random blots (N, 3, H, W), uint8: noise alone would average out within a few layers."""
    generator = torch.Generator().manual_seed(seed)
    blots = torch.rand(batch, 3, height // 8, width // 8, generator=generator)
    blots = F.interpolate(blots, (height, width), mode='bicubic').clamp(0, 1)
    return (blots * 255).to(torch.uint8)


def model(cfg):
    """The unfolded model in eval mode, with the statistics of :func:`images`.

    With random statistics the signal would die out over so many layers.
    """
    torch.manual_seed(0)
    built = build_model(cfg)
    built.init_weights()
    norms = [module for module in built.modules() if isinstance(module, _BatchNorm)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5)
            # Keep most activations: frequent cuts by ReLU would blow up rounding errors.
            norm.bias.normal_(mean=1., std=0.3)
            norm.momentum = 1.
        for branch in getattr(getattr(built, 'bbox_head', None), 'cls_convs', ()):
            branch[-1].weight.normal_(std=.04)
        batch = built.data_preprocessor(dict(inputs=list(images(4, 96, 96, seed=0))))
        built.train()(batch['inputs'], mode='tensor')
    return textbook(built).eval()


def write_pictures(folder, count=3):
    """Random pictures of 96 x 64 pixels in a new directory; returns their paths."""
    folder.mkdir(parents=True)
    paths = [folder / f'{index}.png' for index in range(count)]
    for path, image in zip(paths, images(count, 64, 96)):
        mmcv.imwrite(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), str(path))
    return paths


def write_trained(folder):
    """A config, which mmdeploy can read too, and a checkpoint for both tasks, and pictures."""
    for name, path in dict(detection=DETECTION, segmentation=SEGMENTATION).items():
        cfg = config(path, size=(96, 64))
        cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
        save(model(cfg), folder / f'{name}.pth')
        cfg.dump(folder / f'{name}.py')
    write_pictures(folder / 'pictures')
    return folder


def save(built, path):
    """A checkpoint as mmengine writes it."""
    torch.save(dict(meta={}, state_dict=built.state_dict()), path)
    return path
