"""verify_folding() finds what is wrong, and says where."""

import pytest
import torch
from mmengine.registry import MODELS
from toy_classifier import TINY_ARCH

from mobileone_mm.folding.reparameterize import reparameterize
from mobileone_mm.folding.verify import (
    FoldingError,
    relative_difference,
    verify_folding,
    verify_on_batch,
)

IMAGE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
BLOCKS = ['stage0', 'stage1.0', 'stage1.1', 'stage2.0', 'stage2.1', 'stage3.0', 'stage3.1',
          'stage4.0', 'stage4.1']


@pytest.fixture
def models(randomize):
    backbone = dict(type='MobileOne', arch=TINY_ARCH)
    model = randomize(MODELS.build(dict(type='ToyClassifier', backbone=backbone)))
    return model, reparameterize(model.eval(), fuse_conv_bn=True)


def test_a_sound_fold_passes_with_room_and_changes_nothing(models):
    states = [{k: v.clone() for k, v in model.state_dict().items()} for model in models]
    assert 0 < verify_folding(*models, IMAGE) < 1e-6
    assert verify_folding(*models, inputs=IMAGE) == verify_folding(*models, IMAGE)
    for model, state in zip(models, states):
        assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())


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
def test_where_an_operator_has_no_float64_both_run_in_float32(models, error):
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


def test_of_a_batch_one_image_is_compared(models):
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
