"""The analytic engine computes what the branches compute."""

import copy
import pickle

import pytest
import torch
from engine_utils import assert_same, both, randomize, relative_error, run, set_engine
from mmengine.model import ExponentialMovingAverage
from torch import nn
from torch.utils.checkpoint import checkpoint

from mobileone_mm.backbones import MobileOne, MobileOneBlock
from mobileone_mm.branches import analytic_forward

TOLERANCE = 1e-9
POINTWISE = dict(in_channels=6, out_channels=6, kernel_size=1)
DEPTHWISE = dict(in_channels=6, out_channels=6, kernel_size=3, groups=6)
BLOCKS = dict(
    pointwise=POINTWISE,
    widening=dict(POINTWISE, out_channels=10),
    depthwise=DEPTHWISE,
    strided=dict(DEPTHWISE, stride=2),
    dilated=dict(DEPTHWISE, dilation=2),
    dilated5=dict(DEPTHWISE, kernel_size=5, dilation=2),
    no_skip=dict(DEPTHWISE, use_skip_branch=False),
    no_scale=dict(DEPTHWISE, use_scale_branch=False),
    stem=dict(in_channels=3, out_channels=8, kernel_size=3, stride=2),
    dense=dict(in_channels=4, out_channels=4, kernel_size=3),
    se=dict(in_channels=32, out_channels=32, kernel_size=3, groups=32, use_se=True),
    gelu=dict(POINTWISE, act_cfg=dict(type='GELU')),
)


def make_block(name, k=2, seed=0, dtype=torch.float64, **kwargs):
    torch.manual_seed(seed)
    block = MobileOneBlock(**{**BLOCKS[name], **kwargs}, num_conv_branches=k)
    return randomize(block.to(dtype), seed)


def make_input(block, batch=3, size=(9, 7), offset=.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    channels = block.conv_kwargs['in_channels']
    x = torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64)
    return (x + offset).to(next(block.parameters()).dtype)


def is_used(block, x):
    return analytic_forward(set_engine(copy.deepcopy(block), 'analytic'), x) is not None


@pytest.mark.parametrize('k', [1, 2, 3, 4, 5])
@pytest.mark.parametrize('name', BLOCKS)
def test_block_equals_textbook(name, k, passes):
    block = make_block(name, k)
    for batch, size in ((3, (9, 7)), (1, (8, 8)), (4, (2, 1)), (2, (1, 5)), (2, (2, 2))):
        x = make_input(block, batch, size)
        assert is_used(block, x)
        assert_same(both(block, x), block, TOLERANCE)


@pytest.mark.parametrize('k', [1, 3])
@pytest.mark.parametrize('name', ['pointwise', 'depthwise', 'strided', 'stem'])
def test_channels_last(name, k):
    block = make_block(name, k).to(memory_format=torch.channels_last)
    x = make_input(block).to(memory_format=torch.channels_last)
    assert is_used(block, x)
    assert_same(both(block, x), block, TOLERANCE)


@pytest.mark.parametrize('arch, kwargs', [
    ('s0', {}), ('s1', dict(output_stride=8)), ('s2', dict(output_stride=16)),
    ('s3', {}), ('s4', {})])
def test_network_equals_textbook(arch, kwargs):
    torch.manual_seed(0)
    net = randomize(MobileOne(arch, out_indices=(0, 1, 2, 3), **kwargs).double())
    x = torch.randn(4, 3, 48, 45, dtype=torch.float64)
    assert_same(both(net, x), net, TOLERANCE)


@pytest.mark.parametrize('name', ['depthwise', 'dense'])
def test_a_wrong_engine_would_be_noticed(monkeypatch, name):
    """A mutant: a fold without the means fails the comparison."""
    from mobileone_mm.branches import choose as engine
    from mobileone_mm.branches.plain import folded_conv
    monkeypatch.setattr(engine, 'usable', lambda x: False)
    monkeypatch.setattr(folded_conv.fold, 'fold_bias', lambda kernel, mean, beta, *_: beta.sum(0))
    block = make_block(name)
    with pytest.raises(AssertionError, match='output 0'):
        assert_same(both(block, make_input(block)), block, TOLERANCE)


@pytest.mark.parametrize('name', ['depthwise', 'pointwise'])
@pytest.mark.parametrize('k', [1, 2])
def test_a_wrong_kernel_would_be_noticed(monkeypatch, name, k):
    """A mutant: compiled passes without the last channel fail the comparison."""
    pytest.importorskip('numba')
    from mobileone_mm.branches.compiled import (
        dense_functions as compiled_dense,
    )
    from mobileone_mm.branches.compiled import (
        functions as compiled_branches,
    )
    from mobileone_mm.branches.compiled import run

    def mutant(kernel, like, *args):
        run(lambda *all_args: kernel(*all_args[:-1], all_args[-1] - 1), like, *args)

    monkeypatch.setattr(compiled_branches, 'run', mutant)
    monkeypatch.setattr(compiled_dense, 'run', mutant)
    block = make_block(name, k)
    with pytest.raises(AssertionError, match='output 0'):
        assert_same(both(block, make_input(block)), block, TOLERANCE)


def edit(block, change):
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    if change == 'cumulative':
        for norm in norms:
            norm.momentum = None
    elif change == 'mixed momentum and eps':
        norms[0].momentum, norms[0].eps = .3, 1e-3
    elif change == 'one frozen':
        norms[0].eval()
    elif change == 'last frozen':
        norms[-1].eval()
    elif change == 'frozen by evaluation':
        block.eval()
    elif change == 'no statistics':
        for norm in norms:
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    elif change == 'no affine':
        for norm in norms:
            norm.weight = norm.bias = None
    elif change == 'half affine':
        norms[0].weight = norms[0].bias = None
    elif change == 'frozen parameters':
        norms[0].requires_grad_(False)
        block.rbr_conv[0].conv.requires_grad_(False)
    else:
        raise AssertionError(change)
    return block


@pytest.mark.parametrize('k', [1, 3])
@pytest.mark.parametrize('name', ['pointwise', 'depthwise', 'strided'])
@pytest.mark.parametrize('change', [
    'cumulative', 'mixed momentum and eps', 'one frozen', 'last frozen', 'frozen by evaluation',
    'no statistics', 'no affine', 'half affine', 'frozen parameters'])
def test_norm_variants(change, name, k, passes):
    block = edit(make_block(name, k), change)
    x = make_input(block)
    assert is_used(block, x)

    def two_steps(module, t):
        return module(t), module(t * 1.5 + 1)

    results = both(block, x, two_steps)
    assert_same(results, block, TOLERANCE)


@pytest.mark.parametrize('k', [1, 2])
@pytest.mark.parametrize('name', ['pointwise', 'widening', 'depthwise', 'strided', 'stem'])
def test_gradcheck(name, k, passes):
    block = set_engine(make_block(name, k, act_cfg=None), 'analytic')
    x = make_input(block, 2, (3, 3)).requires_grad_()
    names, params = zip(*block.named_parameters())

    def call(t, *values):
        return torch.func.functional_call(block, dict(zip(names, values)), (t, ))

    assert torch.autograd.gradcheck(call, (x, *params), atol=1e-6, fast_mode=True)


def test_accumulation_and_repeated_use():
    block = make_block('depthwise')
    x = make_input(block)

    def chain(module, t):
        y = module(module(t))
        y.sum().backward(retain_graph=True)
        return y

    assert_same(both(block, x, chain), block, TOLERANCE)


@pytest.mark.parametrize('k', [1, 3])
def test_training_gives_the_same_losses(k):
    torch.manual_seed(0)
    arch = dict(width_factor=(.25, ) * 4, num_blocks=(1, 2, 1, 1), num_conv_branches=(k, ) * 4)
    net = MobileOne(arch).double()
    head = nn.Linear(net.out_channels[0], 4).double()
    x, target = torch.randn(8, 3, 64, 64, dtype=torch.float64), torch.arange(8) % 4
    curves = []
    for engine in ('textbook', 'analytic'):
        model = set_engine(copy.deepcopy(nn.ModuleList([net, head])), engine).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=.02, momentum=.9)
        losses = []
        for _ in range(20):
            loss = nn.functional.cross_entropy(model[1](model[0](x)[0].mean((2, 3))), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curves.append(losses)
    assert curves[1] == pytest.approx(curves[0], rel=1e-9, abs=1e-12)
    assert curves[0][-1] < curves[0][0] / 2


@pytest.mark.parametrize('name', ['pointwise', 'depthwise', 'strided'])
@pytest.mark.parametrize('k', [1, 3])
def test_eval_equals_textbook_and_updates_nothing(name, k):
    block = make_block(name, k).eval()
    results = both(block, make_input(block))
    assert_same(results, block, TOLERANCE)
    for key, value in dict(block.named_buffers()).items():
        assert torch.equal(results[1][f'buffer {key}'], value)


def test_left_to_the_branches():
    block = make_block('depthwise')
    x = make_input(block)
    assert is_used(block, x)
    hooked = copy.deepcopy(block)
    seen = []
    hooked.rbr_conv[0].bn.register_forward_hook(lambda *args: seen.append(1))
    assert not is_used(hooked, x)
    set_engine(hooked, 'analytic')(x)
    assert seen == [1]
    replaced = copy.deepcopy(block)
    replaced.rbr_conv[0].conv.forward = lambda t: t
    assert not is_used(replaced, x)
    grouped = randomize(MobileOneBlock(6, 6, 1, norm_cfg=dict(type='GN', num_groups=2)).double())
    assert not is_used(grouped, x)
    assert_same(both(grouped, x), grouped, TOLERANCE)
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        set_engine(make_block('pointwise'), 'analytic')(make_input(block, 1, (1, 1)))


def test_no_second_derivatives():
    block = set_engine(make_block('pointwise'), 'analytic')
    x = make_input(block).requires_grad_()
    grad, = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'):
        grad.sum().backward()


def test_branch_engine_is_validated():
    with pytest.raises(ValueError, match="branch_engine must be one of .* got 'fast'"):
        MobileOne('s0', branch_engine='fast')


def test_auto_keeps_the_branches_where_they_are_faster():
    block = set_engine(make_block('pointwise', 2), 'auto')
    assert analytic_forward(block, make_input(block, 2, (1, 1))) is None
    assert analytic_forward(block, make_input(block, 2, (4, 4))) is not None


def test_state_dict_copies_and_ema():
    block = set_engine(make_block('depthwise'), 'analytic')
    x = make_input(block)
    assert block.state_dict().keys() == make_block('depthwise').state_dict().keys()
    average = ExponentialMovingAverage(block, momentum=.5, update_buffers=True)
    block(x).sum().backward()
    average.update_parameters(block)
    for twin in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert torch.equal(twin(x), copy.deepcopy(block)(x))


@pytest.mark.parametrize('k', [1, 2])
@pytest.mark.parametrize('reentrant', [False, True])
def test_checkpointing(k, reentrant):
    block = make_block('depthwise', k)
    x = make_input(block)

    def checkpointed(module, t):
        return checkpoint(module, t, use_reentrant=reentrant)

    results = both(block, x, checkpointed)
    assert_same(results, block, TOLERANCE)
    counts = {v.item() for n, v in results[1].items() if n.endswith('num_batches_tracked')}
    assert counts == {2}, 'both engines update running statistics once a forward pass'


@pytest.mark.parametrize('k', [1, 2])
def test_compile(k):
    block = set_engine(make_block('depthwise', k), 'analytic')
    x = make_input(block)
    expected = run(copy.deepcopy(block), x)
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(block), backend='aot_eager')
    actual = {n.replace('_orig_mod.', ''): v for n, v in run(compiled, x).items()}
    for name, value in expected.items():
        assert relative_error(actual[name], value) < TOLERANCE, name


@pytest.mark.parametrize('mode', ['textbook', 'analytic'])
def test_compiled_evaluation_is_one_graph(mode):
    block = set_engine(make_block('depthwise'), mode).eval()
    x = make_input(block)
    torch._dynamo.reset()
    compiled = torch.compile(block, backend='eager', fullgraph=True)
    assert relative_error(compiled(x), block(x)) < TOLERANCE
