"""verify_folding() finds faults and says where they are."""

from contextlib import nullcontext

import folding_faults
import pytest
import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from torch import nn
from toy_classifier import TINY_ARCH

from mobileone_mm.backbones.block import MobileOneBlock
from mobileone_mm.folding.reparameterize import reparameterize
from mobileone_mm.folding.verify import (
    MAX_SIZE,
    FoldingError,
    relative_difference,
    verify_folding,
    verify_on_batch,
)
from mobileone_mm.utils.checkpoint_files import NonFiniteWeightsError, check_finite

IMAGE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
BLOCKS = ['stage0', 'stage1.0', 'stage1.1', 'stage2.0', 'stage2.1', 'stage3.0', 'stage3.1',
          'stage4.0', 'stage4.1']


@pytest.fixture
def models(randomize):
    backbone = dict(type='MobileOne', arch=TINY_ARCH)
    model = randomize(MODELS.build(dict(type='ToyClassifier', backbone=backbone)))
    return model, reparameterize(model.eval(), fuse_conv_bn=True)


def test_a_correct_fold_passes_with_margin_and_changes_nothing(models):
    states = [{k: v.clone() for k, v in model.state_dict().items()} for model in models]
    assert 0 < verify_folding(*models, IMAGE) < 1e-6
    assert verify_folding(*models, inputs=IMAGE) == verify_folding(*models, IMAGE)
    for model, state in zip(models, states):
        assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())


class Shared(nn.Module):
    """One convolution under two names, as in RTMDet's head, and one weight in two modules."""

    def __init__(self, block):
        super().__init__()
        self.block, self.first, self.tied = block, nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.second, self.tied.weight = self.first, self.first.weight

    def forward(self, x):
        return self.tied(self.second(self.first(self.block(x))))


def state_of(*models):
    return [{**vars(module), **module._parameters, **module._buffers}
            for model in models for module in model.modules()]


@pytest.mark.parametrize('fails', [False, True])
def test_the_models_are_as_they_were_whatever_happens(randomize, fails):
    model = Shared(block(randomize))
    folded = reparameterize(model)
    model.train()
    folded.tied.bias.data += fails
    before = state_of(model, folded)
    with pytest.raises(FoldingError) if fails else nullcontext():
        verify_folding(model, folded, torch.randn(1, 8, 8, 8))
    after = state_of(model, folded)
    assert [list(one) for one in before] == [list(one) for one in after]
    assert all(one[key] is two[key] for one, two in zip(before, after) for key in one)


def test_the_models_may_be_in_train_mode(models):
    models[0].train()
    assert verify_folding(*models, IMAGE) < 1e-6
    assert models[0].training


@pytest.mark.parametrize('name', [f'backbone.{block}' for block in BLOCKS] + ['neck'])
def test_a_block_without_its_bias_fails_and_is_named(models, name):
    module = models[1].get_submodule(name)
    conv = module.conv if name == 'neck' else module.reparam_conv
    torch.nn.init.zeros_(conv.bias)
    with pytest.raises(FoldingError, match=rf'^{name} is the first module whose folded'):
        verify_folding(*models, IMAGE)


BLOCK = dict(in_channels=8, out_channels=8, kernel_size=3, num_conv_branches=2)


def block(randomize, **options):
    return randomize(nn.Sequential(MobileOneBlock(**{**BLOCK, **options}))).eval()


@pytest.mark.parametrize('options', [
    dict(), dict(groups=2), dict(groups=8), dict(dilation=4), dict(kernel_size=7, dilation=2)],
    ids=str)
@pytest.mark.parametrize('fault', folding_faults.FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_in_each_folding_function_is_refused(randomize, monkeypatch, fault, options):
    model = block(randomize, **options)
    assert model[0].branch_engine == 'auto'
    image = torch.randn(1, 8, 4, 4)  # too small for the outer taps of some blocks
    assert verify_folding(model, reparameterize(model), image) < 1e-6
    fault(monkeypatch)
    with pytest.raises(FoldingError, match='^0 is the first module'):
        verify_folding(model, reparameterize(model), image)


def barely_active(randomize):
    """A block whose ReLU leaves a 1e-7th of the map, about as much as rounding changes."""
    model = block(randomize)
    image = torch.randn(1, 8, 16, 16)
    rectifier, model[0].activation = model[0].activation, nn.Identity()
    with torch.no_grad():
        peaks = model(image).amax((0, 2, 3))
        model[0].rbr_skip.bias -= peaks * (1 - 1e-7)
    model[0].activation = rectifier
    assert 0 < model(image).max() < 1e-4
    return model, image


def test_a_block_that_hardly_responds_is_no_false_alarm(randomize):
    model, image = barely_active(randomize)
    assert verify_folding(model, reparameterize(model), image) < 1e-6


@pytest.mark.parametrize('fault', folding_faults.FAULTS, ids=lambda fault: fault.__name__)
def test_nor_does_it_hide_a_fault(randomize, monkeypatch, fault):
    model, image = barely_active(randomize)
    image.zero_()  # the output does not depend on the kernel
    fault(monkeypatch)
    with pytest.raises(FoldingError):
        verify_folding(model, reparameterize(model), image)


def test_a_fault_in_one_channel_is_refused(randomize):
    model = block(randomize)
    folded = reparameterize(model)
    with torch.no_grad():  # the smallest channel
        channel = folded[0].reparam_conv.weight.abs().amax((1, 2, 3)).argmin()
        folded[0].reparam_conv.weight[channel] *= 1.01
    with pytest.raises(FoldingError, match='^0 is the first module'):
        verify_folding(model, folded, torch.randn(1, 8, 16, 16))


class Recorder(nn.Module):
    """A model with mmengine's interface that keeps the inputs of itself and its copies."""

    def __init__(self, net):
        super().__init__()
        self.net, self.data_preprocessor = net, BaseDataPreprocessor()

    seen: list = []

    def forward(self, inputs, labels=None, mode='tensor'):
        self.seen.append((tuple(inputs.shape), inputs.flatten()[0].item(), labels))
        return self.net(inputs)


def test_the_middle_of_one_image_in_the_batch_is_compared(randomize):
    Recorder.seen.clear()
    model = Recorder(block(randomize))
    folded = reparameterize(model)
    inputs = torch.arange(8 * 80 * 72.).reshape(1, 8, 80, 72).repeat(4, 1, 1, 1)
    verify_on_batch(model, folded, dict(inputs=inputs, labels=[1, 2, 3, 4]))
    assert Recorder.seen == [((1, 8, MAX_SIZE, MAX_SIZE), 8 * 72. + 4, [1])] * 2


def test_weights_that_are_not_numbers_are_named():
    weights = dict(a=torch.zeros(2), steps=torch.tensor(3), b=torch.tensor([0., float('nan')]),
                   c=torch.tensor(float('inf')))
    with pytest.raises(NonFiniteWeightsError, match=r'^x.pth: .* NaN, b first \(2 of 3 tensors\)'):
        check_finite(weights, 'x.pth')
    del weights['b']
    with pytest.raises(NonFiniteWeightsError, match='weights are infinite, c first'):
        check_finite(weights, 'x.pth')
    del weights['c']
    check_finite(weights, 'x.pth')


def test_a_difference_outside_of_the_folded_modules(models):
    models[1].fc.bias.data += 1
    with pytest.raises(FoldingError, match='each of the 10 folded modules agrees'):
        verify_folding(*models, IMAGE)


def test_nan_is_a_difference(models):
    models[1].backbone.stage0.reparam_conv.weight.data[0] = float('nan')
    with pytest.raises(FoldingError, match='^backbone.stage0 .* nan'):
        verify_folding(*models, IMAGE)


def test_the_tolerance_counts(models):
    with pytest.raises(FoldingError, match='tolerance 1e-12'):
        verify_folding(*models, IMAGE, tolerance=1e-12)


def refuse(dtypes, error=RuntimeError):
    def forward(module, args):
        if args[0].dtype in dtypes:
            raise error('no kernel')
    return forward


@pytest.mark.parametrize('error', [RuntimeError, TypeError])  # the latter on Apple's GPUs
def test_without_a_float64_operator_both_run_in_float32(models, error):
    for model in models:
        model.fc.register_forward_pre_hook(refuse([torch.float64], error))
    assert 0 < verify_folding(*models, IMAGE) < 1e-4
    models[1].fc.bias.data += 1
    with pytest.raises(FoldingError, match='each of the 10 folded modules agrees'):
        verify_folding(*models, IMAGE)


def test_other_errors_are_raised(models):
    models[1].fc.register_forward_pre_hook(refuse([torch.float64, torch.float32]))
    with pytest.raises(RuntimeError, match='no kernel'):
        verify_folding(*models, IMAGE)


def test_one_image_in_the_batch_is_compared(models):
    sizes = []
    for model in models:
        model.fc.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    batch = dict(inputs=IMAGE.repeat(3, 1, 1, 1), labels=torch.zeros(6))
    assert verify_on_batch(*models, batch) < 1e-4
    assert set(sizes) == {1} and len(batch['inputs']) == 6


def test_relative_difference_of_nested_outputs():
    one, two = torch.tensor([1., -4.]), torch.tensor([1., -5.])
    assert relative_difference((one, [one]), (one, [two])) == .25
    assert relative_difference(dict(a=one), dict(a=one)) == 0
    with pytest.raises(ValueError, match='cannot compare'):
        relative_difference([one], [one, one])
    with pytest.raises(ValueError, match='cannot compare'):
        relative_difference([], [])
