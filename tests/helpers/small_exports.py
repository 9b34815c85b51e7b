"""The smallest networks with all kinds of layers, for slow converters."""

from importlib import import_module

import export_models
import pytest
import torch
from torch import nn

from mobileone_mm.export import FORMATS, ExportError, ParityError
from mobileone_mm.export.job import ExportJob
from mobileone_mm.export.parity import FLOAT32, Pair, compare
from mobileone_mm.export.running.exported_model import ExportedModel
from mobileone_mm.folding.reparameterize import reparameterize

ARCH = dict(width_factor=(.25, .25, .125, .125), num_blocks=(1, 1, 2, 1),
            num_se_blocks=(0, 0, 1, 1))
SIZE = (72, 100)  # not a multiple of the strides


def detector():
    """BCCD's detector with a small backbone: three classes, four feature maps."""
    cfg = export_models.config(export_models.DETECTION)
    channels = (32, 32, 64, 32)
    cfg.model.backbone.arch = ARCH
    cfg.model.neck.update(in_channels=channels[:3], out_channels=channels)
    cfg.model.bbox_head.in_channels = channels
    return export_models.model(cfg), cfg


def segmentor():
    """The nuclei's segmentor with a small backbone and head: two classes."""
    cfg = export_models.config(export_models.SEGMENTATION)
    cfg.model.backbone.arch = ARCH
    cfg.model.decode_head.update(in_channels=64, channels=16)
    cfg.model.auxiliary_head.update(in_channels=32, channels=16)
    return export_models.model(cfg), cfg


def job(backend, model, cfg, folder, half=False):
    """Export a folded copy of a model to a new directory."""
    folder.mkdir(exist_ok=True)
    task = 'detection' if hasattr(model, 'bbox_head') else 'segmentation'
    classes = cfg.metainfo.classes if task == 'detection' else cfg.dataset.metainfo.classes
    return ExportJob(
        backend, task, reparameterize(model, fuse_conv_bn=True).eval(), cfg, None,
        export_models.images(1, *SIZE).float(), folder / f'{task}{FORMATS[backend].suffix}',
        half=half, classes=list(classes))


def export(exporting):
    """Export."""
    module = FORMATS[exporting.backend].module
    return import_module(f'mobileone_mm.export.backends.{module}').export(exporting)


def exported(backend):
    """A fixture of a module: for a detector and a segmentor, the model, config, job and file."""
    @pytest.fixture(scope='module', params=[detector, segmentor])
    def fixture(request, tmp_path_factory):
        model, cfg = request.param()
        exporting = job(backend, model, cfg, tmp_path_factory.mktemp(backend))
        return model, cfg, exporting, export(exporting)
    return fixture


def parity(model, path, limits=FLOAT32):
    """Compare a file with the unfolded model on two images."""
    exported = ExportedModel.load(path, model.data_preprocessor)
    pairs = []
    for seed in (1, 2):
        batch = export_models.images(1, *SIZE, seed=seed)
        expected, actual = (side.test_step(_data(model, batch))[0] for side in (model, exported))
        pairs.append(Pair(f'image {seed}', expected, actual))
    cfg = model.test_cfg
    return compare(pairs, limits, cfg.get('score_thr', 0.), cfg.get('max_per_img', 0))


def without_a_bias(model):
    """A mutant: one of many biases is lost."""
    for name, module in model.named_modules():
        if name.endswith('stage3.1.reparam_conv'):
            with torch.no_grad():
                module.bias.zero_()
            return model
    raise LookupError('no such layer')


def check_a_lost_bias_is_found(backend, model, cfg, folder):
    """Export the mutant and compare it with the correct model."""
    exporting = job(backend, model, cfg, folder)
    without_a_bias(exporting.model)
    with pytest.raises(ParityError, match='Worst tensor'):
        parity(model, export(exporting)).check()


def check_batches_are_refused(backend, model, cfg, folder):
    """Check that nothing is left."""
    exporting = job(backend, model, cfg, folder)
    exporting.image = exporting.image.repeat(2, 1, 1, 1)
    with pytest.raises(ExportError, match='batch size 1, not 2'):
        export(exporting)
    assert not list(folder.iterdir())


def check_latency_is_of_a_right_conversion(backend, folder):
    """What tools/benchmark/latency.py times: a wrong one is refused."""
    from mobileone_mm.benchmark.latency.backends import Preparer
    from mobileone_mm.benchmark.latency.networks import Network
    tiny = Network('tiny', 'backbones', 'tiny', lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    preparer = Preparer(tiny, folder, size=32)
    outputs = preparer.call(backend)()
    preparer.check(outputs)
    with pytest.raises(ParityError, match="its logits differ from PyTorch's"):
        preparer.check([outputs[0][:, ::-1].copy()])


def _data(model, batch):
    if hasattr(model, 'bbox_head'):
        from mmdet.structures import DetDataSample as Sample
    else:
        from mmseg.structures import SegDataSample as Sample
    meta = dict(img_shape=SIZE, ori_shape=SIZE, scale_factor=(1., 1.))
    return dict(inputs=list(batch), data_samples=[Sample(metainfo=meta)])
