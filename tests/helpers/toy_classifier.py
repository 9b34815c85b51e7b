"""A classifier and data small enough to train in a test that needs a complete Runner.

Both draw random numbers in training (dropout, noise), so any change to torch's generator changes
the result.
"""

import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn

import mobileone_mm  # noqa: F401

TINY_ARCH = dict(
    width_factor=(0.125, 0.125, 0.125, 0.0625),
    num_conv_branches=(2, 2, 1, 1),
    num_blocks=(1, 1, 1, 1),
    num_se_blocks=(0, 0, 0, 1))
BN = dict(type='BN')


@MODELS.register_module()
class ToyClassifier(BaseModel):
    """A tiny MobileOne, a neck of convolution + batch norm, and a linear head."""

    def __init__(self, backbone, norm_cfg=BN, data_preprocessor=None):
        super().__init__(data_preprocessor or BaseDataPreprocessor())
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(dict(
            type='ConvModule', in_channels=32, out_channels=8, kernel_size=1, norm_cfg=norm_cfg))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(8, 3)

    def forward(self, inputs, labels=None, mode='tensor'):
        logits = self.fc(self.dropout(self.neck(self.backbone(inputs)[-1]).mean((2, 3))))
        if mode == 'loss':
            return dict(loss=nn.functional.cross_entropy(logits, labels))
        return logits if mode == 'tensor' else [
            dict(logits=one, label=label) for one, label in zip(logits, labels)]


@DATASETS.register_module()
class ToyDataset(BaseDataset):
    """Twelve images of three classes, which differ in brightness."""

    METAINFO = dict(classes=('dark', 'gray', 'bright'))

    def __init__(self, noise=0.0):
        self.noise = noise
        super().__init__()

    def load_data_list(self):
        return [dict(seed=i, labels=i % 3) for i in range(12)]

    def prepare_data(self, idx):
        info = self.get_data_info(idx)
        generator = torch.Generator().manual_seed(info['seed'])
        image = torch.randn(3, 32, 32, generator=generator) + info['labels']
        return dict(inputs=image + self.noise * torch.randn(3, 1, 1), labels=info['labels'])


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """The mean probability of the correct class: a smooth score."""

    def process(self, data_batch, data_samples):
        self.results += [s['logits'].softmax(0)[s['label']].item() for s in data_samples]

    def compute_metrics(self, results):
        return dict(score=sum(results) / len(results))


def toy_config(work_dir, hook=True, ema=False, max_epochs=2):
    """A complete config for a run of one second."""
    loader = dict(batch_size=4, num_workers=0, collate_fn=dict(type='default_collate'))
    hooks = [dict(type='EMAHook', momentum=0.3, update_buffers=True)] if ema else []
    hooks += [dict(type='ReparameterizeHook')] if hook else []
    evaluation = dict(
        dataset=dict(type='ToyDataset'), sampler=dict(type='DefaultSampler', shuffle=False))
    return dict(
        custom_imports=dict(imports=['mobileone_mm', 'toy_classifier']),
        model=dict(type='ToyClassifier', norm_cfg=dict(type='BN'),
                   backbone=dict(type='MobileOne', arch=TINY_ARCH)),
        work_dir=str(work_dir),
        train_dataloader=dict(
            **loader, dataset=dict(type='ToyDataset', noise=0.5),
            sampler=dict(type='DefaultSampler', shuffle=True)),
        train_cfg=dict(by_epoch=True, max_epochs=max_epochs, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        val_dataloader=dict(**loader, **evaluation),
        val_cfg=dict(),
        val_evaluator=dict(type='ToyMetric'),
        test_dataloader=dict(**loader, **evaluation),
        test_cfg=dict(),
        test_evaluator=dict(type='ToyMetric'),
        default_hooks=dict(checkpoint=dict(
            type='CheckpointHook', interval=1, save_best='score', rule='greater')),
        custom_hooks=hooks,
        randomness=dict(seed=0),
        experiment_name=f'{work_dir.name}_{hook}_{ema}')
