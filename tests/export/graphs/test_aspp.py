"""Compare the ASPP head with image pooling outside the bottleneck with mmseg's own head."""

import pytest
import torch

import mobileone_mm  # noqa: F401  (before mmseg)

pytest.importorskip('mmseg', reason='needs mmseg')

from mmcv.cnn import fuse_conv_bn  # noqa: E402
from mmseg.models import ASPPHead, DepthwiseSeparableASPPHead  # noqa: E402

from mobileone_mm.export.graphs.aspp import computes_as_aspp, pooling_apart  # noqa: E402
from mobileone_mm.segmentation import DeepLabV3Head  # noqa: E402


@pytest.mark.parametrize('kind', [ASPPHead, DeepLabV3Head])
@pytest.mark.parametrize('folded', [True, False])
@pytest.mark.parametrize('size', [(9, 7), (2, 3), (1, 4)])
def test_logits_are_those_of_the_head(size, folded, kind):
    torch.manual_seed(0)
    head = kind(dilations=(1, 2, 3), in_channels=6, in_index=1, channels=5, num_classes=4,
                norm_cfg=dict(type='BN')).double()
    for module in head.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(value)
            torch.nn.init.uniform_(module.running_var, .5, 2)
    head = (fuse_conv_bn(head) if folded else head).eval()
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    with torch.no_grad():
        expected = head([None, x])
        assert expected.std() > .1
        torch.testing.assert_close(pooling_apart(head, [None, x]), expected, rtol=0, atol=1e-12)


def test_heads_that_compute_otherwise_are_left_alone():
    options = dict(in_channels=6, channels=5, num_classes=4)
    assert computes_as_aspp(ASPPHead(**options)) and computes_as_aspp(DeepLabV3Head(**options))
    assert not computes_as_aspp(DepthwiseSeparableASPPHead(c1_in_channels=0, c1_channels=0,
                                                           **options))
