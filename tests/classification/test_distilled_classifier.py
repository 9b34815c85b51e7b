"""Distillation: the loss is the textbook's, and the teacher stays outside the student."""

import copy

import pytest
import torch
from mmengine.config import Config
from torch.nn import functional as F
from torchvision_stub import import_mmpretrain

from mobileone_mm.folding.deployed_files import deployed_config
from mobileone_mm.folding.models import build_model
from mobileone_mm.utils.checkpoint_files import CheckpointError

import_mmpretrain()
from mobileone_mm.classification import DistilledClassifier  # noqa: E402

ARCH = dict(width_factor=(.125, .125, .125, .0625), num_blocks=(1, 1, 1, 1))


def classifier(**changes):
    return dict(dict(
        type='ImageClassifier',
        backbone=dict(type='mmengine.MobileOne', arch=ARCH),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=32,
                  loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'))),
        **changes)


def _config(model):
    return Config(dict(model=model, default_scope='mmpretrain'))


@pytest.fixture
def teachers(tmp_path, randomize):
    """Two teachers' configs with their files, and their models in eval mode."""
    configs, models = [], []
    for i in range(2):
        model = randomize(build_model(_config(classifier()))).eval()
        path = tmp_path / f'teacher{i}.pth'
        torch.save(dict(state_dict=model.state_dict()), path)
        configs.append(classifier(checkpoint=str(path)))
        models.append(model)
    return configs, models


def student(configs, **changes):
    config = classifier(type='mmengine.DistilledClassifier', teachers=configs, **changes)
    return build_model(_config(config)).train()


def samples(labels):
    from mmpretrain.structures import DataSample
    return [DataSample().set_gt_label(label) for label in labels]


@pytest.mark.parametrize('temperature, label_weight', [(1., 0.), (4., .5)])
def test_loss(teachers, temperature, label_weight):
    configs, models = teachers
    model = student(configs, temperature=temperature, label_weight=label_weight)
    model.init_weights()
    images, labels = torch.randn(6, 3, 32, 32), [0, 1, 2, 3, 4, 0]
    losses = copy.deepcopy(model)(images, samples(labels), mode='loss')
    with torch.no_grad():
        logits = copy.deepcopy(model)(images)
        soft = sum((m(images) / temperature).softmax(1) for m in models) / 2
    expected = (soft * (soft.log() - (logits / temperature).log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(losses['loss_distill'], temperature**2 * expected)
    assert ('loss_label' in losses) == bool(label_weight)
    if label_weight:
        own = F.cross_entropy(logits, torch.tensor(labels), label_smoothing=0.1)
        torch.testing.assert_close(losses['loss_label'], label_weight * own)


def test_teachers_are_not_part_of_the_student(teachers):
    configs, models = teachers
    model = student(configs)
    model.init_weights()
    plain = build_model(_config(classifier()))
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert len(list(model.parameters())) == len(list(plain.parameters()))
    loss = model(torch.randn(4, 3, 32, 32), samples([0, 1, 2, 3]), mode='loss')['loss_distill']
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    for teacher, before in zip(model._teachers.models, models):
        assert not teacher.training
        for name, value in before.state_dict().items():  # and its statistics do not move
            assert torch.equal(teacher.state_dict()[name], value), name
    assert model.double()._teachers.models[0].head.fc.weight.dtype == torch.float64
    assert copy.deepcopy(model)._teachers is model._teachers


def test_a_deployed_student_needs_no_teacher(tmp_path):
    cfg = _config(classifier(
        type='mmengine.DistilledClassifier',
        teachers=[classifier(checkpoint=str(tmp_path / 'gone.pth'))]))
    model = build_model(deployed_config(cfg))
    assert isinstance(model, DistilledClassifier) and model.backbone.deploy
    model.eval()(torch.randn(1, 3, 32, 32))
    with pytest.raises(FileNotFoundError, match=r'gone\.pth'):
        build_model(cfg).init_weights()


def test_bad_teachers(teachers, tmp_path):
    configs, _ = teachers
    for wrong in ([], [classifier()]):
        with pytest.raises(ValueError, match='each with a checkpoint'):
            student(wrong)
    with pytest.raises(ValueError, match='temperature'):
        student(configs, temperature=0.)
    torch.save(dict(head=torch.zeros(3)), tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match='not of the model'):
        student([classifier(checkpoint=str(tmp_path / 'other.pth'))]).init_weights()
