"""The backbone has the right size, obeys its options, and folds exactly."""

import copy
import pickle

import pytest
import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.registry import MODELS
from torch.nn.modules.batchnorm import _BatchNorm

from mobileone_mm import MobileOne, MobileOneBlock
from mobileone_mm.backbones.archs import ARCHS, resolve_arch

# Parameters of the released classifiers, unfolded and folded; MFLOPs at 224 px (paper, Table 9).
SIZES = {
    's0': (5_293_272, 2_078_504, 275),
    's1': (4_825_192, 4_764_840, 825),
    's2': (7_884_648, 7_808_168, 1299),
    's3': (10_170_600, 10_078_312, 1896),
    's4': (14_951_248, 14_838_352, 2978),
}
TINY = dict(width_factor=(0.25, 0.25, 0.25, 0.25), num_conv_branches=(2, 1, 2, 1),
            num_blocks=(1, 2, 3, 1), num_se_blocks=(0, 0, 1, 1))


def num_parameters(module):
    """Parameters of the backbone with its 1000-way classifier, as in the checkpoints."""
    classifier = 1000 * module.out_channels[-1] + 1000
    return sum(p.numel() for p in module.parameters()) + classifier


@pytest.mark.parametrize('arch', SIZES)
def test_parameters_and_flops(arch):
    unfolded, folded, mflops = SIZES[arch]
    assert num_parameters(MobileOne(arch)) == unfolded
    deployed = MobileOne(arch, deploy=True).eval()
    assert num_parameters(deployed) == folded
    counted = get_model_complexity_info(deployed, (3, 224, 224), show_table=False, show_arch=False)
    flops = counted['flops'] + 1000 * deployed.out_channels[-1]
    assert flops / 1e6 == pytest.approx(mflops, rel=2e-3)


@pytest.mark.parametrize('arch', SIZES)
def test_float32_fold(arch, randomize):
    model = randomize(MobileOne(arch, out_indices=(0, 1, 2, 3))).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model(images)
        model.switch_to_deploy()
        after = model(images)
    assert model.deploy and not any(isinstance(m, _BatchNorm) for m in model.modules())
    for a, b in zip(before, after):
        assert (a - b).abs().max() / a.abs().max() < 2e-6


@pytest.mark.parametrize('norm', ['BN', 'SyncBN'])
@pytest.mark.parametrize('output_stride', [8, 16, 32])
def test_float64_fold(output_stride, norm, randomize):
    model = MobileOne(TINY, output_stride=output_stride, norm_cfg=dict(type=norm))
    randomize(model.double()).eval()
    images = torch.randn(2, 3, 70, 62, dtype=torch.float64)
    with torch.no_grad():
        before = model(images)[0]
        model.switch_to_deploy()
        assert (model(images)[0] - before).abs().max() / before.abs().max() < 1e-12


def test_folding_in_train_mode_warns_and_keeps_the_mode():
    model = MobileOne(TINY).train()
    with pytest.warns(UserWarning, match='train mode'):
        model.switch_to_deploy()
    assert model.training and model.stage1[0].reparam_conv.training
    model.switch_to_deploy()  # idempotent


def test_deploy_builds_what_folding_leaves():
    folded = MobileOne('s4').eval()
    folded.switch_to_deploy()
    built = MobileOne('s4', deploy=True)
    assert {k: v.shape for k, v in folded.state_dict().items()} == {
        k: v.shape for k, v in built.state_dict().items()}


@pytest.mark.parametrize('out_indices, strides', [
    ((0, 1, 2, 3), (4, 8, 16, 32)), ((3, 1), (32, 8)), ((-1, -4), (32, 4)), (2, (16, ))])
def test_out_indices(out_indices, strides):
    model = MobileOne('s0', out_indices=out_indices, deploy=True).eval()
    widths = {4: 48, 8: 128, 16: 256, 32: 1024}
    with torch.no_grad():
        outs = model(torch.randn(1, 3, 65, 96))
    assert model.out_strides == strides
    assert model.out_channels == tuple(widths[s] for s in strides)
    assert [tuple(o.shape) for o in outs] == [
        (1, widths[s], -(-65 // s), -(-96 // s)) for s in strides]


@pytest.mark.parametrize('output_stride, strides', [(16, (4, 8, 16, 16)), (8, (4, 8, 8, 8))])
def test_output_stride(output_stride, strides):
    model = MobileOne(TINY, out_indices=(0, 1, 2, 3), output_stride=output_stride)
    assert model.out_strides == strides
    assert [64 // o.shape[-1] for o in model(torch.randn(2, 3, 64, 64))] == list(strides)
    assert set(model.state_dict()) == set(MobileOne(TINY).state_dict())


@pytest.mark.parametrize('kwargs, named', [
    (dict(arch='s9'), "'s9'"), (dict(arch=dict(width_factor=(1, 1, 1))), 'width_factor'),
    (dict(arch=dict(num_blocks=(1, 1, 1, 1))), 'width_factor'),
    (dict(arch=dict(TINY, depth=3)), 'depth'),
    (dict(arch=dict(TINY, num_se_blocks=(2, 0, 0, 0))), 'num_se_blocks'),
    (dict(arch=dict(TINY, num_blocks=(1, 2, 1.5, 1))), 'num_blocks'),
    (dict(arch=dict(TINY, width_factor=(1, 1, 1, -1))), 'width_factor'),
    (dict(arch=None), 'arch None'), (dict(arch=dict(width_factor=1.)), 'width_factor needs 4'),
    (dict(num_conv_branches=0), 'num_conv_branches'), (dict(in_channels=0), 'in_channels'),
    (dict(out_indices=(1., )), 'out_indices'), (dict(out_indices='3'), 'out_indices'),
    (dict(out_indices=(4, )), 'out_indices'), (dict(out_indices=(-5, )), 'out_indices'),
    (dict(out_indices=()), 'out_indices'), (dict(out_indices=(1, -3)), 'out_indices'),
    (dict(output_stride=4), 'output_stride'), (dict(frozen_stages=5), 'frozen_stages'),
    (dict(frozen_stages=-2), 'frozen_stages'), (dict(frozen_stages=1.0), 'frozen_stages'),
    (dict(frozen_stages=True), 'frozen_stages'), (dict(out_indices=True), 'out_indices')])
def test_bad_arguments(kwargs, named):
    with pytest.raises(ValueError, match=named):
        MobileOne(**{'arch': 's0', **kwargs})


def test_frozen_stages_and_norm_eval():
    model = MobileOne(TINY, frozen_stages=1)
    assert model.train() is model and model.eval() is model
    model.train()
    for i, stage in enumerate(model.stages):
        frozen = i <= 1
        assert all(p.requires_grad is not frozen for p in stage.parameters())
        assert all(m.training is not frozen
                   for m in stage.modules() if isinstance(m, _BatchNorm))
    norm_eval = MobileOne(TINY, norm_eval=True).train()
    assert norm_eval.training
    assert not any(m.training for m in norm_eval.modules() if isinstance(m, _BatchNorm))
    assert all(p.requires_grad for p in norm_eval.parameters())


def test_overrides_and_ablation_switches():
    assert resolve_arch('S4') is ARCHS['s4']
    assert not any('.se.' in key for key in MobileOne('s4', use_se=False).state_dict())
    assert MobileOne(TINY, use_se=True).arch.num_se_blocks == TINY['num_se_blocks']
    assert ARCHS['s1'].override(use_se=True).num_se_blocks == (0, 0, 5, 1)
    assert len(MobileOne('s1', num_conv_branches=5).stage2[0].rbr_conv) == 5
    assert len(MobileOne('s0').stage0.rbr_conv) == 1  # the released code's stem
    bare = MobileOne(TINY, use_scale_branch=False, use_skip_branch=False).state_dict()
    assert not any('rbr_scale' in key or 'rbr_skip' in key for key in bare)


def test_found_in_every_registry():
    assert MODELS.build(dict(type='MobileOne', arch=TINY)).out_channels == (128, )
    for library in ('mmdet', 'mmseg'):
        registry = pytest.importorskip(f'{library}.registry')
        assert type(registry.MODELS.build(dict(type='MobileOne', arch=TINY))) is MobileOne


@pytest.mark.parametrize('engine', ['auto', 'textbook'])
def test_checkpointing_gives_the_same_gradients_and_statistics(engine):
    plain = MobileOne(TINY, branch_engine=engine)
    cheap = MobileOne(TINY, branch_engine=engine, with_cp=True)
    cheap.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    for model in (plain, cheap):
        model.train()(images)[0].square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), cheap.parameters()):
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-5), name
    for (name, a), b in zip(plain.named_buffers(), cheap.buffers()):
        assert torch.equal(a, b), name  # the recomputation must not count twice


@pytest.mark.parametrize('clone', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_deepcopy_and_pickle(clone, randomize):
    model = randomize(MobileOne(TINY)).eval()
    images = torch.randn(1, 3, 32, 32)
    twin = clone(model)
    twin.switch_to_deploy()
    assert not model.deploy
    with torch.no_grad():
        assert torch.allclose(model(images)[0], twin(images)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    if dtype == torch.float16 and not hasattr(torch, 'get_autocast_dtype'):
        pytest.skip('before torch 2.4 autocast on CPUs has bfloat16 only')
    model = MobileOne(TINY).train()
    with torch.autocast('cpu', dtype=dtype):
        loss = model(torch.randn(2, 3, 32, 32))[0].float().square().mean()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize('dtype, rtol', [(torch.float32, 0.5), (torch.float64, 1e-8)])
def test_channels_last_trains(dtype, rtol):
    """torch's strided 1x1 convolution would kill the process in the stem's 1x1 branch."""
    reference = MobileOne('s0', num_conv_branches=1).to(dtype).train()
    model = copy.deepcopy(reference).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 64, 64, dtype=dtype)
    for m, x in ((reference, images), (model, images.to(memory_format=torch.channels_last))):
        m(x.requires_grad_())[0].square().mean().backward()
    a, b = (m.stage0.rbr_scale.conv.weight.grad for m in (model, reference))
    assert (a - b).norm() <= rtol * b.norm()


def test_sync_bn_conversion(randomize):
    model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(randomize(MobileOne(TINY))).eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = model(images)[0]
        model.switch_to_deploy()
        assert torch.allclose(before, model(images)[0], rtol=1e-4, atol=1e-4)


def test_torch_compile(randomize):
    model = randomize(MobileOne(TINY)).eval()
    images = torch.randn(1, 3, 32, 32)
    compiled = torch.compile(model, backend='aot_eager')
    with torch.no_grad():
        assert torch.allclose(model(images)[0], compiled(images)[0], rtol=1e-4, atol=1e-4)
    loss = torch.compile(model.train(), backend='aot_eager')(images.repeat(2, 1, 1, 1))[0].sum()
    loss.backward()
    assert model.stage0.rbr_conv[0].conv.weight.grad is not None


def test_a_block_is_usable_alone():
    assert MobileOneBlock(8, 16, 3, stride=2)(torch.randn(2, 8, 9, 9)).shape == (2, 16, 5, 5)
