"""Every segmentation config builds, fits together, trains and predicts."""

import copy
import functools

import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from paths import ROOT
from torch import nn

from mobileone_mm.backbones.archs import ARCHS
from mobileone_mm.backbones.squeeze_excite import SqueezeExcite

mmseg = pytest.importorskip('mmseg', reason='mmsegmentation is not installed')

CONFIGS = ROOT / 'configs' / 'segmentation'
NAMES = sorted(path.stem for path in CONFIGS.glob('*.py'))
PUBLISHED = {f'deeplabv3_mobileone_{arch}_{data}': arch
             for arch in ARCHS for data in ('voc12aug', 'voc12coco', 'ade20k')}
SLIDE = dict(mode='slide', crop_size=(64, 64), stride=(42, 42))


@pytest.fixture(scope='module')
def config():
    """A function that loads a config by name, without pre-trained weights."""
    files = {name: Config.fromfile(CONFIGS / f'{name}.py') for name in NAMES}

    def fresh(name):
        cfg = copy.deepcopy(files[name])
        cfg.model.backbone.init_cfg = None
        return cfg
    return fresh


@pytest.fixture(scope='module')
def meta_model(config):
    """A function that builds a config's model on torch's meta device, which only has shapes."""
    @functools.cache
    def built(name):
        cfg = config(name)
        cfg.model.backbone.branch_engine = 'textbook'  # autocast does not know the meta device
        with torch.device('meta'):
            return build(cfg)
    return built


def build(cfg):
    from mmseg.registry import MODELS
    init_default_scope('mmseg')
    return MODELS.build(cfg.model)


def tiny(cfg):
    """The model with few channels in its heads."""
    cfg.model.decode_head.channels = cfg.model.auxiliary_head.channels = 8
    return cfg


def batch(*sizes, num_classes, labels=True):
    """A batch like a data loader's: uint8 images of the (H, W) ``sizes`` and their labels."""
    from mmseg.structures import SegDataSample
    data = dict(inputs=[], data_samples=[])
    for height, width in sizes:
        data['inputs'].append(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))
        sample = SegDataSample(metainfo=dict(
            img_shape=(height, width), ori_shape=(height, width), img_path='x.jpg'))
        label = torch.randint(0, num_classes, (1, height, width))
        label[:, :2] = 255
        sample.gt_sem_seg = PixelData(data=label)
        data['data_samples'].append(sample)
    return data


def test_all_variants_are_there():
    assert set(PUBLISHED) <= set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_heads_fit_the_backbone(config, meta_model, name):
    cfg, model = config(name), meta_model(name)
    backbone = model.backbone
    for head in (model.decode_head, model.auxiliary_head):
        index = backbone.out_indices.index(head.in_index)
        assert head.in_channels == backbone.out_channels[index]
        assert head.num_classes == model.decode_head.num_classes
    assert model.auxiliary_head.in_index == 2 and model.decode_head.in_index == 3
    stride = cfg.model.backbone.output_stride
    assert backbone.out_strides == tuple(min(s, stride) for s in (4, 8, 16, 32))
    logits = model.train()(torch.empty(2, 3, 65, 96, device='meta'))
    assert logits.shape == (2, head.num_classes, -(-65 // stride), 96 // stride)
    # mmengine converts in distributed training; a literal SyncBN would fail elsewhere
    assert 'SyncBN' not in cfg.pretty_text and cfg.sync_bn == 'torch'
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())


@pytest.mark.parametrize('name', PUBLISHED)
def test_what_the_paper_and_cvnets_publish(meta_model, name):
    cfg, model = Config.fromfile(CONFIGS / f'{name}.py'), meta_model(name)
    arch = PUBLISHED[name]
    assert cfg.model.backbone.arch == arch
    assert cfg.model.backbone.init_cfg.checkpoint.endswith(f'mobileone_{arch}_unfused.pth.tar')
    assert not any(isinstance(m, SqueezeExcite) for m in model.modules()), 'Table 11b, dagger'
    assert cfg.train_cfg.max_epochs == 50
    assert cfg.optim_wrapper.optimizer.lr == 9e-4 and cfg.optim_wrapper.optimizer.type == 'AdamW'
    assert cfg.train_dataloader.batch_size * 4 == cfg.auto_scale_lr.base_batch_size == 64
    assert cfg.optim_wrapper.accumulative_counts == cfg.custom_hooks[0].interval == 2
    assert cfg.param_scheduler[0].end == 500 * cfg.optim_wrapper.accumulative_counts
    assert cfg.model.decode_head.type == 'DeepLabV3Head'
    assert model.decode_head.bottleneck.conv.weight.numel() == 5 * 512 * 512
    for head in (model.decode_head, model.auxiliary_head):
        assert head.loss_decode.avg_non_ignore and head.dropout.p == 0.1
    assert len(cfg.train_dataloader.dataset.get('datasets', ())) == (
        2 * ('voc12' in name) + ('coco' in name))
    assert model.auxiliary_head.channels == max(model.auxiliary_head.in_channels // 4, 128)


@pytest.mark.parametrize('stride, rates', [(8, (1, 12, 24, 36)), (32, (1, 3, 6, 9))])
def test_output_stride_on_the_command_line_equals_the_file(config, stride, rates):
    cfg = config('deeplabv3_mobileone_s1_voc12aug')
    options = {'model.backbone.output_stride': str(stride),
               'model.decode_head.dilations': str(rates).replace(' ', '')}
    cfg.merge_from_dict({k: DictAction._parse_iterable(v) for k, v in options.items()})
    file = config(f'deeplabv3_mobileone_s1-os{stride}_voc12aug')
    assert cfg.model.to_dict() == file.model.to_dict()


@pytest.mark.parametrize('name', ['deeplabv3_mobileone_s0_voc12aug',
                                  'deeplabv3_mobileone_s4_ade20k',
                                  'deeplabv3_mobileone_s1-os8_voc12aug'])
@pytest.mark.parametrize('mixed', [False, True])
def test_loss_reaches_every_parameter(config, name, mixed):
    cfg = tiny(config(name))
    model = build(cfg).train()
    cfg = cfg.model.decode_head
    data = model.data_preprocessor(batch((48, 64), (64, 33), num_classes=cfg.num_classes), True)
    assert data['inputs'].shape == (2, 3, 512, 512)
    inputs, samples = data['inputs'][..., :64, :64], data['data_samples']
    for sample in samples:  # 512 x 512 would be slow
        sample.gt_sem_seg = PixelData(data=sample.gt_sem_seg.data[..., :64, :64])
    with torch.autocast('cpu', torch.bfloat16, enabled=mixed):
        losses = model(inputs, samples, mode='loss')
    total = losses['decode.loss_ce'] + losses['aux.loss_ce']
    assert torch.isfinite(total)
    total.backward()
    assert [n for n, p in model.named_parameters()
            if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize('test_cfg', [dict(mode='whole'), SLIDE], ids=['whole', 'slide'])
@torch.no_grad()
def test_images_of_different_sizes_in_one_batch(config, test_cfg):
    cfg = tiny(config('deeplabv3_mobileone_s1_voc12aug'))
    cfg.model.test_cfg = test_cfg
    model = build(cfg).eval()
    sizes = [(70, 96), (40, 50), (33, 97)]
    data = batch(*sizes, num_classes=21)
    model.data_preprocessor.padding = dict(size_divisor=1)
    results = model.test_step(data)
    assert [tuple(r.pred_sem_seg.shape) for r in results] == sizes
    assert [tuple(r.gt_sem_seg.shape) for r in results] == sizes

    # Without the preprocessor: normalize, pad and crop by hand.
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in
                 ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    images = torch.zeros(3, 3, 70, 97)
    for padded, image in zip(images, data['inputs']):
        padded[:, :image.shape[1], :image.shape[2]] = (image.flip(0) - mean) / std
    meta = [dict(ori_shape=(70, 97), img_shape=(70, 97))] * 3
    expected = model.inference(images, meta)
    for result, logits, (height, width) in zip(results, expected, sizes):
        assert torch.allclose(result.seg_logits.data, logits[:, :height, :width], atol=1e-5)


@torch.no_grad()
def test_size_divisor_and_equal_sizes(config):
    cfg = tiny(config('deeplabv3_mobileone_s1_voc12aug'))
    cfg.model.data_preprocessor.test_cfg = dict(size_divisor=32)
    model = build(cfg).eval()
    data = batch((40, 50), (33, 64), num_classes=21)
    assert model.data_preprocessor(data)['inputs'].shape == (2, 3, 64, 64)
    assert [tuple(r.pred_sem_seg.shape) for r in model.test_step(data)] == [(40, 50), (33, 64)]

    stock_cfg = dict(config('deeplabv3_mobileone_s1_voc12aug').model.data_preprocessor)
    from mmseg.models import SegDataPreProcessor
    stock = SegDataPreProcessor(**{k: v for k, v in stock_cfg.items() if k != 'type'})
    data = batch((40, 50), (40, 50), num_classes=21)
    model.data_preprocessor.padding = dict(size_divisor=1)
    assert torch.equal(model.data_preprocessor(data)['inputs'], stock(data)['inputs'])


@torch.no_grad()
def test_slide_equals_whole_where_one_window_covers_the_image(config):
    cfg = tiny(config('deeplabv3_mobileone_s1_voc12aug'))
    model = build(cfg).eval()
    data = batch((60, 64), num_classes=21)
    whole = model.test_step(data)[0].seg_logits.data
    cfg.merge_from_dict({'model.test_cfg.mode': 'slide', 'model.test_cfg.crop_size': [64, 64],
                         'model.test_cfg.stride': [42, 42]})  # as from --cfg-options
    model.test_cfg = cfg.model.test_cfg
    assert torch.equal(model.test_step(data)[0].seg_logits.data, whole)


def test_head_is_the_papers(config):
    """Five branches, a 1x1 projection, channel dropout and a classifier, written in plain torch."""
    import torch.nn.functional as F
    cfg = tiny(config('deeplabv3_mobileone_s0_voc12aug'))
    head = build(cfg).double().train().decode_head
    x = torch.randn(2, 1024, 9, 7, dtype=torch.float64)

    def layer(module, x):
        conv = module.conv
        y = F.conv2d(x, conv.weight, None, padding=conv.dilation[0] * (conv.kernel_size[0] // 2),
                     dilation=conv.dilation)
        return F.batch_norm(y, None, None, module.bn.weight, module.bn.bias, training=True).relu()

    branches = [layer(head.image_pool[1], x.mean((2, 3), keepdim=True)).expand(-1, -1, 9, 7)]
    branches += [layer(module, x) for module in head.aspp_modules]
    assert [m.conv.dilation[0] for m in head.aspp_modules] == [1, 6, 12, 18]
    assert [m.conv.kernel_size[0] for m in head.aspp_modules] == [1, 3, 3, 3]
    merged = layer(head.bottleneck, torch.cat(branches, 1))
    torch.manual_seed(1)
    expected = F.conv2d(F.dropout2d(merged, 0.1), head.conv_seg.weight, head.conv_seg.bias)
    torch.manual_seed(1)
    torch.testing.assert_close(head([None, None, None, x]), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('data', ['voc12aug', 'ade20k'])
def test_both_protocols_of_testing(config, data):
    """The short side of 512, or 512x512; the ground truth keeps its size in both."""
    import numpy as np
    from mmengine.dataset import Compose

    from mobileone_mm.commands.test_options import resize_images
    cfg, shapes = config(f'deeplabv3_mobileone_s0_{data}'), []
    for size in (None, '512x512'):
        if size:
            resize_images(cfg, size)
        steps = [step for step in cfg.test_dataloader.dataset.pipeline if 'Load' not in step.type]
        image = dict(img=np.zeros((100, 150, 3), np.uint8), ori_shape=(100, 150), img_path='x',
                     seg_map_path='x', gt_seg_map=np.zeros((100, 150), np.uint8), seg_fields=[])
        init_default_scope('mmseg')
        packed = Compose(steps)(image)
        shapes.append(tuple(packed['inputs'].shape))
        assert packed['data_samples'].gt_sem_seg.shape == (100, 150)
    assert shapes == [(3, 512, 768), (3, 512, 512)]


def test_blur_is_drawn_and_bounded():
    import numpy as np

    from mobileone_mm.segmentation import RandomGaussianBlur
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    np.random.seed(0)
    changed = [not np.array_equal(RandomGaussianBlur()(dict(img=image))['img'], image)
               for _ in range(60)]
    assert 15 < sum(changed) < 45
    assert np.array_equal(RandomGaussianBlur(prob=0.)(dict(img=image))['img'], image)
    blurred = RandomGaussianBlur(prob=1., radius=(2., 2.))(dict(img=image))['img']
    assert blurred.std() < image.std() / 2 and abs(blurred.mean() - image.mean()) < 3
    for bad in (dict(prob=2.), dict(radius=(1., 0.)), dict(radius=(-1., 1.))):
        with pytest.raises(ValueError, match='prob|radius'):
            RandomGaussianBlur(**bad)


def test_accumulated_gradients_update_once_in_two_batches(config):
    """The optimizer steps and the average moves every second batch, never with the first."""
    from types import SimpleNamespace

    from mmengine.hooks import EMAHook
    from mmengine.optim import OptimWrapper
    cfg = config('deeplabv3_mobileone_s0_voc12aug')
    model = nn.Linear(1, 1)
    options = {k: v for k, v in cfg.optim_wrapper.items() if k not in ('type', 'optimizer',
                                                                       'paramwise_cfg')}
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), .1), **options)
    wrapper.initialize_count_status(model, 0, 8)
    options = dict(cfg.custom_hooks[0])
    hook = EMAHook(**{k: v for k, v in options.items() if k not in ('type', 'priority')})
    runner = SimpleNamespace(model=model, iter=0)
    hook.before_run(runner)
    steps, averages = [], []
    for _ in range(8):
        before = model.weight.item(), hook.ema_model.module.weight.item()
        wrapper.update_params(model(torch.ones(1, 1)).sum())
        hook.after_train_iter(runner, 0)
        runner.iter += 1
        steps.append(model.weight.item() != before[0])
        averages.append(hook.ema_model.module.weight.item() != before[1])
    assert steps == [False, True] * 4
    assert averages[2:] == [True, False] * 3
