"""reparameterize() takes any model and any wrapper, and changes only the form."""

import copy
import logging

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel
from toy_classifier import TINY_ARCH

from mobileone_mm.folding import reparameterize as reparameterize_module
from mobileone_mm.folding.deployed_files import check_loads, deployed_config
from mobileone_mm.folding.models import build_model
from mobileone_mm.folding.reparameterize import holds_unfolded, reparameterize, unwrap_model
from mobileone_mm.folding.verify import relative_difference, verify_folding

IMAGE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(randomize):
    backbone = dict(type='MobileOne', arch=TINY_ARCH)
    return randomize(MODELS.build(dict(type='ToyClassifier', backbone=backbone))).eval()


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def has_bn(model):
    return any(isinstance(module, _BatchNorm) for module in model.modules())


WRAPPERS = dict(
    plain=lambda model: model,
    distributed=lambda model: nn.parallel.DistributedDataParallel(model),
    averaged=lambda model: ExponentialMovingAverage(model),
    swa=lambda model: AveragedModel(model),
    compiled=lambda model: torch.compile(model, backend='eager'),
    compiled_distributed=lambda model: torch.compile(
        nn.parallel.DistributedDataParallel(model), backend='eager'))


@pytest.mark.parametrize('wrapper', WRAPPERS)
@pytest.mark.usefixtures('process_group')
def test_wrapped_models(model, wrapper):
    wrapped = WRAPPERS[wrapper](model).eval()
    expected = wrapped(IMAGE)
    state = {key: value.clone() for key, value in wrapped.state_dict().items()}

    folded = reparameterize(wrapped)
    assert type(folded) is type(model) and not holds_unfolded(folded)
    torch.testing.assert_close(folded(IMAGE), expected)
    # The original is as it was.
    assert all(torch.equal(state[key], value) for key, value in wrapped.state_dict().items())
    assert torch.equal(wrapped(IMAGE), expected)

    assert reparameterize(wrapped, inplace=True) is wrapped
    assert not holds_unfolded(wrapped)
    torch.testing.assert_close(wrapped(IMAGE), expected)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.filterwarnings('ignore:folding a MobileOne in train mode')
def test_mode_is_kept(model, training):
    assert {m.training for m in reparameterize(model.train(training)).modules()} == {training}


def test_folding_in_train_mode_gives_the_eval_outputs_and_warns(model):
    expected = model(IMAGE)
    model.train()
    with pytest.warns(UserWarning, match='train mode'):
        folded = reparameterize(model)
    torch.testing.assert_close(folded.eval()(IMAGE), expected)


@pytest.mark.parametrize('fuse_conv_bn', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_device_and_dtype_are_kept(model, dtype, device, fuse_conv_bn):
    if device == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no GPU')
    folded = reparameterize(model.to(device, dtype), fuse_conv_bn=fuse_conv_bn)
    tensors = folded.state_dict().values()
    assert {(t.device.type, t.dtype) for t in tensors if t.is_floating_point()} == {(device, dtype)}


def test_requires_grad_is_kept(model):
    model.backbone.frozen_stages = 2
    model.train().eval()  # train() freezes
    model.neck.requires_grad_(False)
    folded = reparameterize(model, fuse_conv_bn=True)
    for name, parameter in folded.named_parameters():
        frozen = name.startswith(('backbone.stage0', 'backbone.stage1', 'backbone.stage2', 'neck'))
        assert parameter.requires_grad is not frozen, name


def test_idempotent(model):
    once = reparameterize(model, fuse_conv_bn=True)
    before = dict(once.named_parameters())
    assert reparameterize(once, inplace=True, fuse_conv_bn=True) is once
    assert all(before[name] is parameter for name, parameter in once.named_parameters())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('fuse_conv_bn', [False, True])
def test_half_precision_is_refused_before_anything_changes(model, dtype, fuse_conv_bn):
    half = copy.deepcopy(model).to(dtype)
    with pytest.raises(ValueError, match=r'backbone|stage0.*call .float\(\) first'):
        reparameterize(half, inplace=True, fuse_conv_bn=fuse_conv_bn)
    assert list(half.state_dict()) == list(model.state_dict())
    # The advice in the message works, and a model that is folded and cast passes unchanged.
    cast = reparameterize(model, fuse_conv_bn=fuse_conv_bn).to(dtype)
    assert reparameterize(cast, inplace=True, fuse_conv_bn=fuse_conv_bn) is cast


def test_nothing_to_fold_is_an_error():
    with pytest.raises(ValueError, match='Sequential holds no MobileOne'):
        reparameterize(nn.Sequential(nn.Conv2d(3, 3, 1)))


def test_a_head_in_half_precision_is_refused_if_it_would_be_folded():
    net = Net(nn.Conv2d(32, 32, 1), nn.BatchNorm2d(32)).eval()
    net.head.half()
    with pytest.raises(ValueError, match='head.0.weight is in torch.float16'):
        reparameterize(net, fuse_conv_bn=True)
    assert not holds_unfolded(reparameterize(net))


def test_what_is_unfolded_is_found():
    net = MODELS.build(dict(type='MobileOne', arch=TINY_ARCH))
    assert holds_unfolded(nn.Sequential(net))
    # Other norms than a MobileOne's do not count.
    folded = nn.Sequential(reparameterize(net.eval()), nn.BatchNorm2d(3))
    assert not holds_unfolded(folded)


def test_the_model_inside_wrappers_is_found():
    wrapper, net = nn.Module(), nn.Conv2d(1, 1, 1)
    wrapper.add_module('_orig_mod', net)  # as torch.compile does
    assert unwrap_model(wrapper) is net and unwrap_model(net) is net


def test_norms_that_remain_are_named(monkeypatch):
    logged = []
    monkeypatch.setattr(reparameterize_module, 'print_log', lambda *args: logged.append(args))
    reparameterize(Net(nn.Conv2d(32, 32, 1), nn.BatchNorm2d(32)).eval(), fuse_conv_bn=True)
    assert not logged
    reparameterize(Net(nn.ReLU(), nn.BatchNorm2d(32)).eval(), fuse_conv_bn=True)
    (text, logger, level), = logged
    assert text.startswith('1 batch norms') and text.endswith(': head.1')
    assert (logger, level) == ('current', logging.WARNING)


CONFIGS = dict(
    mmdet='configs/detection/ssdlite_mobileone_s0_coco.py',
    mmseg='configs/segmentation/deeplabv3_mobileone_s0_voc12aug.py')


@pytest.mark.parametrize('library', CONFIGS)
@pytest.mark.filterwarnings('ignore')
def test_no_batch_norm_is_left_in_detector_and_segmentor(library, randomize, pytestconfig):
    pytest.importorskip(library)
    cfg = Config.fromfile(pytestconfig.rootpath / CONFIGS[library])
    model = randomize(build_model(cfg)).eval()
    folded = reparameterize(model, fuse_conv_bn=True)
    assert has_bn(model) and not has_bn(folded)
    assert verify_folding(model, folded, IMAGE, mode='tensor') < 1e-6
    check_loads(folded, deployed_config(cfg, fuse_conv_bn=True))
    if library == 'mmseg':  # mode='tensor' does not run the auxiliary head
        auxiliary = [m.double().auxiliary_head(m.backbone(IMAGE.double())) for m in (model, folded)]
        assert relative_difference(*auxiliary) < 1e-6


class Net(nn.Module):
    """A MobileOne, so that there is something to fold, and a head to test."""

    def __init__(self, *head):
        super().__init__()
        self.backbone = MODELS.build(dict(type='MobileOne', arch=TINY_ARCH))
        self.head = nn.Sequential(*head)

    def forward(self, x):
        return self.head(self.backbone(x)[-1])


BN = dict(type='BN')
CONV = nn.Conv2d(32, 32, 1)
HEADS = dict(
    plain=([ConvModule(32, 32, 3, norm_cfg=BN)], True),
    bias=([nn.Conv2d(32, 32, 3, bias=True), nn.BatchNorm2d(32)], True),
    no_affine=([nn.Conv2d(32, 32, 3), nn.BatchNorm2d(32, affine=False)], True),
    sync_bn=([ConvModule(32, 32, 3, norm_cfg=dict(type='SyncBN'))], True),
    mmcv_conv=([ConvModule(32, 32, 3, conv_cfg=dict(type='Conv'), norm_cfg=BN)], True),
    act_first=([ConvModule(32, 32, 1, norm_cfg=BN, order=('act', 'conv', 'norm'))], True),
    reflect=([ConvModule(32, 32, 1, padding=0, padding_mode='reflect', norm_cfg=BN)], True),
    efficient=([ConvModule(32, 32, 1, norm_cfg=BN, efficient_conv_bn_eval=True)], True),
    norm_first=([ConvModule(32, 32, 1, norm_cfg=BN, order=('norm', 'conv', 'act'))], False),
    norm_last=([ConvModule(32, 32, 1, norm_cfg=BN, order=('conv', 'act', 'norm'))], False),
    spectral=([ConvModule(32, 32, 1, norm_cfg=BN, with_spectral_norm=True)], False),
    standardized=([ConvModule(32, 32, 1, conv_cfg=dict(type='ConvWS'), norm_cfg=BN)], False),
    shared=([nn.Sequential(CONV, nn.BatchNorm2d(32)), nn.Sequential(CONV, nn.BatchNorm2d(32))],
            False),
    no_statistics=([nn.Conv2d(32, 32, 1), nn.BatchNorm2d(32, track_running_stats=False)], False))


@pytest.mark.parametrize('name', HEADS)
def test_only_pairs_that_can_be_folded_are(name, randomize):
    head, folds = HEADS[name]
    net = Net(*copy.deepcopy(head)).eval()
    randomize(net.backbone)
    for bn in net.head.modules():
        if isinstance(bn, _BatchNorm) and bn.track_running_stats:
            randomize(bn)
    images = IMAGE.repeat(2, 1, 1, 1) if name == 'no_statistics' else nn.functional.pad(
        IMAGE, [32] * 4)
    folded = reparameterize(net, fuse_conv_bn=True)
    assert has_bn(folded.head) is not folds
    assert verify_folding(net, folded, images) < 1e-6
