"""verify_folding() finds faults and says where they are."""

from contextlib import ExitStack, nullcontext

import folding_faults
import pytest
import torch
from mmengine.model import BaseDataPreprocessor, BaseTTAModel
from mmengine.registry import MODELS
from torch import nn
from toy_classifier import TINY_ARCH

from mobileone_mm.backbones.block import MobileOneBlock
from mobileone_mm.folding import verify
from mobileone_mm.folding.reparameterize import reparameterize
from mobileone_mm.folding.verify import (
    DEFAULT_TOLERANCE,
    MAX_SIZE,
    FoldingError,
    first_of_batch,
    relative_difference,
    tensors_of,
    textbook,
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


def test_textbook_sets_all_blocks_and_nothing_else(randomize):
    model = nn.Sequential(block(randomize), nn.Conv2d(8, 8, 1))
    assert textbook(model) is model and model[0][0].branch_engine == 'textbook'
    assert not hasattr(model[1], 'branch_engine')


def test_autocast_and_random_numbers_are_left_alone(models):
    state = torch.get_rng_state()
    with torch.autocast('cpu', torch.bfloat16):
        assert verify_folding(*models, IMAGE) < 1e-6
    assert torch.equal(torch.get_rng_state(), state)


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


class InPlace(BaseDataPreprocessor):
    """Adds one to its input, which it changes, and hands on its mode."""

    def forward(self, data, training=None):
        data['inputs'] += 1
        return dict(data, training=training)


class Recorder(nn.Module):
    """A model with mmengine's interface that keeps the inputs of itself and its copies.

    As LR-ASPP in mmseg, it needs an image of some size.
    """

    def __init__(self, net, least=1):
        super().__init__()
        self.net, self.least, self.data_preprocessor = net, least, BaseDataPreprocessor()
        self.seen.clear()

    seen: list = []
    test_step = None  # BaseTTAModel asks for it

    def forward(self, inputs, labels=None, mode='loss', training=False):
        assert mode == 'tensor' and training is False
        self.seen.append((tuple(inputs.shape), inputs.flatten()[0].item(), labels))
        if inputs.shape[-1] < self.least:
            raise RuntimeError('too small')
        return self.net(inputs)


def test_a_batch_of_which_the_preprocessor_changes_images(randomize):
    model = Recorder(block(randomize))
    model.data_preprocessor = InPlace()
    batch = dict(inputs=torch.zeros(2, 8, 9, 9))
    verify_on_batch(model, reparameterize(model), batch)
    assert model.seen == [((1, 8, 9, 9), 1., None)] * 2 and not batch['inputs'].any()


def test_a_model_that_needs_the_whole_image_gets_it(randomize):
    model = Recorder(block(randomize), least=65)
    folded = reparameterize(model)
    inputs = torch.ones(1, 8, 65, 65)
    verify_on_batch(model, folded, dict(inputs=inputs))
    # In float64 and float32, then the whole.
    assert [seen[0][-1] for seen in model.seen] == [64, 64, 65, 65]
    with pytest.raises(FoldingError, match='tolerance 1e-20'):
        verify_on_batch(model, folded, dict(inputs=inputs), tolerance=1e-20)
    model.least = 66
    with pytest.raises(RuntimeError, match='too small'):
        verify_on_batch(model, folded, dict(inputs=inputs))


def test_an_error_in_the_fold_is_final(randomize):
    model = Recorder(block(randomize))
    folded = reparameterize(model)
    folded.net[0].reparam_conv.bias.data += 1
    with pytest.raises(FoldingError, match='^net.0 is the first'):
        verify_on_batch(model, folded, dict(inputs=torch.ones(1, 8, 65, 65)))
    assert len(model.seen) == 2
    verify_on_batch(model, folded, dict(inputs=torch.ones(1, 8, 65, 65)), tolerance=1e9)


class Views(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        raise NotImplementedError


def test_of_test_time_augmentation_the_first_view_is_compared(randomize):
    model = Recorder(block(randomize))
    views = [torch.full((2, 8, 9, 9), float(value)) for value in (3, 4)]
    verify_on_batch(Views(model), Views(reparameterize(model)),
                    dict(inputs=views, labels=[[1, 2], [3, 4]]))
    assert model.seen == [((1, 8, 9, 9), 3., [1])] * 2


def test_the_first_of_a_batch():
    images = torch.arange(6).view(3, 2)
    found = first_of_batch(dict(inputs=images, samples=[1, 2], more=dict(a=('x', 'y'), b='yz')))
    assert torch.equal(found.pop('inputs'), images[:1])
    assert found == dict(samples=[1], more=dict(a=('x', ), b='yz'))


def test_the_middle_of_one_image_in_the_batch_is_compared(randomize):
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


@pytest.mark.parametrize('blocks, whole, message', [
    (dict(a=0., b=DEFAULT_TOLERANCE, c=1.), 0., r'^b is the first .* by 1.0e-03 \(relative\)'),
    (dict(a=9e-4), DEFAULT_TOLERANCE, r'by 1.0e-03 \(relative\), .* each of the 1 folded'),
    (dict(a=9e-4, b=0.), 9e-4, None)])
def test_a_difference_of_the_tolerance_is_one(models, monkeypatch, blocks, whole, message):
    monkeypatch.setattr(verify, '_run_both', lambda *args: (blocks, whole))
    if message is None:
        assert verify_folding(*models, IMAGE) == whole
    else:
        with pytest.raises(FoldingError, match=message):
            verify_folding(*models, IMAGE)


@pytest.mark.parametrize('found', [[1., 3., 2.], [1., 3., float('nan')], [3., float('nan'), 1.]])
def test_a_module_that_runs_several_times_counts_with_its_worst(found):
    watch = verify._BlockWatch(nn.Sequential(), nn.Sequential(), ExitStack())
    watch._note('other', 0.)
    for difference in found:
        watch._note('a', difference)
    worst = torch.tensor(found).max()  # keeps NaN
    assert list(watch.differences) == ['other', 'a']
    assert torch.equal(torch.tensor(watch.differences['a']).isnan(), worst.isnan())
    assert worst.isnan() or watch.differences['a'] == 3


def refuse(dtypes, error=RuntimeError):
    def forward(module, args):
        if args[0].dtype in dtypes:
            raise error('no kernel')
    return forward


@pytest.mark.parametrize('error', [RuntimeError, TypeError])  # the latter on Apple's GPUs
def test_without_a_float64_operator_both_run_in_float32(models, error, monkeypatch):
    logged = []
    monkeypatch.setattr(verify, 'print_log', lambda *args: logged.append(args))
    for model in models:
        model.fc.register_forward_pre_hook(refuse([torch.float64], error))
    assert 0 < verify_folding(*models, IMAGE) < 1e-4
    assert logged == [('Folding is verified in float32, since float64 fails: no kernel', 'current')]
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
    assert relative_difference([one, one * 10], [two, one * 10]) == .25  # of each tensor by itself
    assert relative_difference(one, two, lambda tensor: 3 + tensor.amax().item()) == .25
    assert relative_difference(one, two, lambda _: 8.) == .125
    with pytest.raises(ValueError, match='cannot compare'):
        relative_difference([one], [one, one])
    with pytest.raises(ValueError, match='cannot compare'):
        relative_difference([], [])
    with pytest.raises(ValueError, match=r'shapes \[\(2,\)\] and \[\(1, 2\)\]'):
        relative_difference(one, one[None])


def test_relative_difference_of_nothing_and_of_nan():
    zero, nan = torch.zeros(2), torch.tensor([0., float('nan')])
    assert relative_difference(zero, zero) == 0
    assert relative_difference(zero, zero + 1e-30) > 1e100
    assert relative_difference([zero[:0], zero], [zero[:0], zero]) == 0
    assert relative_difference(zero[:0], zero[:0]) == 0
    for one, two in ((nan, zero), (zero, nan)):
        for found in (relative_difference([one, zero], [two, zero]),
                      relative_difference([zero, one], [zero + 1, two])):
            assert found != found


def test_tensors_of_nested_structures():
    one, two, three = torch.ones(3, 1)
    found = list(tensors_of(dict(b=[one, None, (two, 'a')], a=dict(c=three, d=4))))
    assert [id(tensor) for tensor in found] == [id(one), id(two), id(three)]


class TwoStages(nn.Module):
    """A region proposal network, whose proposals a second stage takes; as in mmdet."""

    class Proposals(nn.Module):
        def __init__(self, features):
            super().__init__()
            self.features, self.score = features, nn.Conv2d(8, 1, 1)

        def forward(self, x):
            return self.score(self.features(x))

        def predict(self, x, rescale=False):
            assert rescale
            return self(x).flatten().argmax()

    def __init__(self, features):
        super().__init__()
        self.rpn_head, self.second = self.Proposals(features), nn.Conv2d(8, 2, 1)
        self.seen = []

    def forward(self, x):
        proposal = self.rpn_head.predict(x, rescale=True)
        self.seen.append(proposal)
        return self.second(x).flatten(2)[:, :, proposal]


def test_both_second_stages_get_the_same_proposals(randomize):
    model = TwoStages(block(randomize))
    folded = reparameterize(model)
    image = torch.randn(1, 8, 9, 9)
    assert verify_folding(model, folded, image) < 1e-6
    assert model.seen[0] is folded.seen[0]
    assert 'predict' not in vars(model.rpn_head) and not model.rpn_head._forward_hooks
    folded.rpn_head.score.bias.data += 1  # the same proposal, from other maps
    with pytest.raises(FoldingError, match='each of the 1 folded modules agrees'):
        verify_folding(model, folded, image)
    folded.rpn_head.score.bias.data -= 1
    folded.second.bias.data += 1
    with pytest.raises(FoldingError, match='each of the 1 folded modules agrees'):
        verify_folding(model, folded, image)


def test_what_is_compared_by_itself(randomize):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = MobileOneBlock(**BLOCK)
            self.stage = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8),
                                       MobileOneBlock(**BLOCK))
            self.norm = nn.Sequential(nn.BatchNorm2d(8))

    assert list(verify._foldable_names(Net())) == ['block', 'stage', 'stage.2', 'norm']
    wrapped = nn.Sequential(Net())
    assert list(verify._foldable_names(wrapped)) == ['0.block', '0.stage', '0.stage.2', '0.norm']


class Doubling(nn.Module):
    """Changes its input in place, and takes another by name."""

    def __init__(self, norm):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 1), norm

    def forward(self, x, shift):
        return self.norm(self.conv(x.mul_(2))) + shift.add_(1)


class Caller(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.inner = Doubling(norm)

    def forward(self, x):
        return self.inner(x.clone(), shift=x[..., :1].clone())


def test_modules_that_change_their_input_are_compared_on_the_same():
    model, folded = Caller(nn.BatchNorm2d(8)), Caller(nn.Identity())  # equal up to its eps
    folded.inner.conv = model.inner.conv
    assert verify_folding(model, folded, torch.randn(1, 8, 5, 5)) < 1e-4
    folded = Caller(nn.Identity())
    with pytest.raises(FoldingError, match='^inner is the first'):
        verify_folding(model, folded, torch.randn(1, 8, 5, 5))


@pytest.mark.parametrize('fails', [False, True])
def test_inputs_of_activations_are_seen_while_a_module_runs(fails):
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(inplace=True), nn.Sigmoid())
    x = -torch.ones(1, 1, 2, 2)
    with torch.no_grad(), pytest.raises(KeyError) if fails else nullcontext():
        with verify._inputs_of_activations(module) as seen:
            module[0].weight.fill_(1.), module[0].bias.zero_()
            module(x)
            if fails:
                raise KeyError
    module(x)
    assert len(seen) == 2 and torch.equal(seen[0], x) and torch.equal(seen[1], x * 0)
