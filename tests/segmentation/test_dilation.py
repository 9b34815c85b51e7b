"""Dilation instead of stride gives the same network, sampled densely."""

import itertools

import pytest
import torch

from mobileone_mm import MobileOne, MobileOneBlock
from mobileone_mm.backbones.archs import ARCHS

# Two blocks in each of the last stages (S0 to S4 have one in the last), so that both kinds occur:
# blocks that lose their stride, and blocks after one.
SMALL = dict(
    width_factor=(0.25, 0.125, 0.125, 0.0625),
    num_blocks=(1, 1, 2, 2),
    num_conv_branches=(2, 2, 2, 2))


@pytest.fixture
def strided_and_dilated(randomize):
    def build(arch, output_stride, **kwargs):
        strided = randomize(MobileOne(arch, **kwargs)).double().eval()
        dilated = MobileOne(arch, output_stride=output_stride, **kwargs).double().eval()
        dilated.load_state_dict(strided.state_dict())
        return strided, dilated
    return build


def receptive_radius(backbone: MobileOne) -> int:
    """How many input pixels an output sees to each side."""
    radius, stride = 0, 1
    for block in backbone.modules():
        if isinstance(block, MobileOneBlock):
            cfg = block.conv_kwargs
            radius += stride * cfg['dilation'] * (cfg['kernel_size'] // 2)
            stride *= cfg['stride']
    return radius


def assert_interleaves(strided, dilated, output_stride, shifts):
    """``dense[i * r + a] == strided(image from pixel a * output_stride on)[i]``, off the borders.

    Near the borders, both pad different maps with zeros, so they differ.
    """
    ratio = 32 // output_stride
    radius = receptive_radius(strided)
    assert receptive_radius(dilated) == radius
    border = -(-radius // 32)
    size = 32 * (2 * border + 3)
    image = torch.randn(1, 3, size, size, dtype=torch.float64)
    dense, = dilated(image)
    assert dense.shape[-1] == size // output_stride
    for a, b in shifts or itertools.product(range(ratio), repeat=2):
        shifted, = strided(image[:, :, a * output_stride:, b * output_stride:])
        expected = shifted[:, :, border:-border, border:-border]
        rows, columns = (slice(border * ratio + shift, None, ratio) for shift in (a, b))
        actual = dense[:, :, rows, columns][:, :, :expected.shape[2], :expected.shape[3]]
        assert min(expected.shape[2:]) >= 2
        difference = ((actual - expected).abs().max() / expected.abs().max()).item()
        assert difference < 1e-12, f'shift {a, b}: relative difference {difference:.1e}'


@torch.no_grad()
@pytest.mark.parametrize('engine', ['textbook', 'auto'])
@pytest.mark.parametrize('output_stride', [8, 16])
def test_dilated_network_interleaves_the_strided_one(strided_and_dilated, output_stride, engine):
    networks = strided_and_dilated(SMALL, output_stride, branch_engine=engine)
    assert_interleaves(*networks, output_stride, shifts=None)


@torch.no_grad()
def test_interleaving_notices_a_dilated_strided_kernel(strided_and_dilated):
    """The mistake in smp#183: dilating the kernel of the block that loses its stride, too."""
    strided, dilated = strided_and_dilated(SMALL, 16)
    strided.switch_to_deploy()
    dilated.switch_to_deploy()
    conv = dilated.stage4[0].reparam_conv
    assert conv.dilation == conv.padding == (1, 1)
    conv.dilation = conv.padding = (2, 2)
    with pytest.raises(AssertionError, match='relative difference'):
        assert_interleaves(strided, dilated, 16, shifts=[(0, 1)])


@torch.no_grad()
def test_dilated_s0_interleaves_the_strided_one(strided_and_dilated):
    """The real S0, folded to save time, at the hardest stride and two of 16 shifts."""
    strided, dilated = strided_and_dilated('s0', 8)
    strided.switch_to_deploy()
    dilated.switch_to_deploy()
    assert_interleaves(strided, dilated, 8, shifts=[(1, 3), (2, 0)])


@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('output_stride', [8, 16, 32])
def test_only_kernels_behind_a_lost_stride_are_dilated(arch, output_stride):
    backbone = MobileOne(arch, out_indices=(0, 1, 2, 3), output_stride=output_stride, deploy=True)
    assert backbone.out_strides == tuple(min(s, output_stride) for s in (4, 8, 16, 32))
    sampled = 2  # the spacing of the strided net's features, in image pixels
    for stage in (backbone.stage1, backbone.stage2, backbone.stage3, backbone.stage4):
        for i, block in enumerate(stage[::2]):
            conv = block.reparam_conv
            assert conv.dilation == (max(1, sampled // output_stride), ) * 2
            assert conv.padding == conv.dilation
            sampled *= 2 if i == 0 else 1
            assert conv.stride == ((2, 2) if i == 0 and sampled <= output_stride else (1, 1))


@torch.no_grad()
@pytest.mark.parametrize('output_stride', [8, 16])
def test_folding_is_exact_with_dilation(output_stride, randomize):
    backbone = MobileOne(SMALL, output_stride=output_stride, branch_engine='textbook')
    randomize(backbone).double().eval()
    image = torch.randn(1, 3, 97, 64, dtype=torch.float64)
    before, = backbone(image)
    backbone.switch_to_deploy()
    after, = backbone(image)
    assert before.shape[-2:] == (-(-97 // output_stride), 64 // output_stride)
    difference = ((after - before).abs().max() / before.abs().max()).item()
    assert difference < 1e-12, f'{difference:.1e}'


@pytest.mark.parametrize('arch, use_se', [('s0', None), ('s4', False)])
def test_imagenet_weights_load_unchanged(arch, use_se, tmp_path, randomize):
    """A file like the released ones, with the classifier and, for S4, the gates."""
    classifier = randomize(MobileOne(arch))
    released = dict(classifier.state_dict())
    released['linear.weight'] = torch.zeros(1000, classifier.out_channels[-1])
    released['linear.bias'] = torch.zeros(1000)
    torch.save(released, tmp_path / 'released.pth.tar')
    backbone = MobileOne(
        arch, output_stride=8, use_se=use_se,
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'released.pth.tar')))
    backbone.init_weights()
    loaded = backbone.state_dict()
    assert len(loaded) > 300
    assert all(torch.equal(value, released[name]) for name, value in loaded.items())
    left_out = {name for name in released if name not in loaded}
    assert all('.se.' in name or name.startswith('linear.') for name in left_out)
