"""Run training steps on the CUDA path without a GPU, on tensors without data."""

import copy
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from cuda_path import BATCH, CudaFault, CudaPath
from engine_utils import relative_error, run, set_engine
from mmengine.config import Config
from mmengine.registry import init_default_scope
from paths import ROOT
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mobileone_mm.backbones import MobileOne, MobileOneBlock
from mobileone_mm.branches import analytic_forward, choose, map_ops

CONFIGS = {
    'detector S0': 'detection/ssdlite_mobileone_s0_coco.py',
    'detector S2': 'detection/ssdlite_mobileone_s2_coco.py',
    'segmentor S0': 'segmentation/deeplabv3_mobileone_s0_voc12aug.py',
    'segmentor S2': 'segmentation/deeplabv3_mobileone_s2_voc12aug.py',
}
# Per branch, forward and backward: convolution and batch norm, its counter, a sum of maps and one
# of gradients, two casts of a weight. Per block: ReLU, and work for other blocks.
MOST_KERNELS_A_BRANCH, MOST_KERNELS_BESIDE = 9, 6
BLOCKS = [dict(kernel_size=3, groups=8, num_conv_branches=k, stride=s)
          for k in (1, 4) for s in (1, 2)] + [dict(kernel_size=1, num_conv_branches=k)
                                              for k in (1, 4)]


def build(name):
    cfg = Config.fromfile(ROOT / 'configs' / CONFIGS[name])
    library = pytest.importorskip({'det': 'mmdet', 'seg': 'mmseg'}[name[:3]])
    cfg.model.backbone.init_cfg = None
    init_default_scope(library.__name__)
    if library.__name__ == 'mmdet':
        from mmdet.registry import MODELS
    else:
        from mmseg.registry import MODELS
    return MODELS.build(cfg.model).train()


def without_data(model, mode):
    """Replace all parameters and buffers with fake tensors."""
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                module._parameters[name] = nn.Parameter(mode.from_tensor(p.detach()))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = mode.from_tensor(buffer)


def outputs(model, x):
    """The loss of all heads, as in training."""
    features = model.extract_feat(x)
    if hasattr(model, 'bbox_head'):
        return [y for maps in model.bbox_head(features) for y in maps]
    return [model.decode_head(features), model.auxiliary_head(features)]


@pytest.mark.parametrize('precision', ['float32', 'amp'])
@pytest.mark.parametrize('name', CONFIGS)
def test_a_step_is_launched_without_waiting(name, precision, monkeypatch):
    model = build(name)
    if precision == 'float32':  # its own device, so that constants on the CPU do not fit
        mode, amp, device = nullcontext(), nullcontext(), 'meta'
        model.to('meta')
    else:  # autocast knows no such device
        monkeypatch.setattr(choose, 'DEVICES', ())
        mode, amp, device = FakeTensorMode(), torch.autocast('cpu', torch.float16), 'cpu'
        without_data(model, mode)
    with mode:
        x = torch.empty(BATCH, 3, 64, 64, device=device)
        with CudaPath(model) as path:
            with amp:
                maps = outputs(model, x)
            torch.autograd.backward(maps, [torch.ones_like(y) for y in maps])
    branches = {n: sum(1 for _ in b.branches()) for b, n in path.blocks.items()}
    assert len(branches) > 20
    for block, count in branches.items():
        most = MOST_KERNELS_A_BRANCH * count + MOST_KERNELS_BESIDE
        assert 2 * count < path.kernels[block] <= most, block


@pytest.mark.parametrize('engine', ['auto', 'analytic', 'textbook'])
def test_a_step_on_another_device(engine):
    model = set_engine(MobileOne('s0'), engine).train().to('meta')
    y = model(torch.empty(2, 3, 64, 64, device='meta'))[-1]
    y.mean().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('device', ['cuda', 'mps', 'xla', 'meta'])
def test_branches_one_by_one_on_other_devices_than_cpus(device, monkeypatch):
    """On CUDA too, unless Triton takes over, which ``tests/branches/triton`` tests."""
    block = MobileOneBlock(8, 8, 3, groups=8, num_conv_branches=2)
    monkeypatch.setattr(choose, 'available', lambda: False)
    x = SimpleNamespace(device=torch.device(device), is_cuda=device == 'cuda')
    assert analytic_forward(block, x) is None


def test_a_planted_wait_is_found(monkeypatch):
    forward = nn.BatchNorm2d.forward

    def waiting(self, x):
        y = forward(self, x)
        return y if y.mean().item() < 9 else 2 * y

    monkeypatch.setattr(nn.BatchNorm2d, 'forward', waiting)
    model = MobileOne('s0').train().to('meta')
    with CudaPath(model), pytest.raises(CudaFault, match='waits for _local_scalar_dense'):
        model(torch.empty(2, 3, 64, 64, device='meta'))


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_a_planted_missing_weight_is_found(layout):
    """CPUs accept it and use ones."""
    g, x = (torch.randn(2, 5, 4, 4).to(memory_format=layout) for _ in range(2))
    mean, ones = torch.randn(5), torch.ones(5)
    rest = None, None, mean, ones, True, 0., [False, True, True]
    _, *expected = torch.ops.aten.native_batch_norm_backward(g, x, None, *rest)
    with CudaPath(nn.Identity()):
        with pytest.raises(CudaFault, match='weight that is None'):
            torch.ops.aten.native_batch_norm_backward(g, x, None, *rest)
        actual = map_ops.channel_dots(g, x, mean)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected))


def test_planted_faults_of_mixed_precision_are_found():
    x = torch.empty(BATCH, 64, 8, 8, dtype=torch.float16, device='meta')
    weight = torch.empty(64, 64, 1, 1, device='meta')
    with CudaPath(nn.Identity()):
        with pytest.raises(CudaFault, match='copied to torch.float32'):
            x.float()
        with pytest.raises(CudaFault, match=r"convolution of \['torch.float16', 'torch.float32'\]"):
            torch.ops.aten.convolution(x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)


@pytest.mark.parametrize('kwargs', BLOCKS)
def test_backward_inside_autocast(kwargs, passes):
    """Gradients equal those of a backward pass outside, in the dtypes of the forward pass."""
    block = set_engine(MobileOneBlock(8, 8, **kwargs), 'analytic').train()
    x = torch.randn(2, 8, 16, 16, requires_grad=True)
    grads = []
    for inside in (False, True):
        block.zero_grad()
        for forward_too in ((False, True) if inside else (False, )):
            with torch.autocast('cpu', torch.bfloat16, enabled=forward_too):
                y = block(x)
            with torch.autocast('cpu', torch.bfloat16, enabled=inside):
                loss = y.float().square().sum()
                grads.append(torch.autograd.grad(loss, [x, *block.parameters()]))
    for outside, within, under_amp in zip(*grads):
        assert torch.equal(outside, within)
        assert relative_error(under_amp, outside) < .2


@pytest.mark.parametrize('engine', ['auto', 'analytic'])
def test_torch_compile_traces_the_branches_into_one_graph(engine):
    block = set_engine(MobileOneBlock(8, 8, 3, groups=8, num_conv_branches=3), engine).train()
    graphs = []

    def backend(module, _):
        graphs.append(module.graph)
        return module.forward

    torch._dynamo.reset()
    x = torch.randn(2, 8, 9, 9)
    expected = run(set_engine(copy.deepcopy(block), 'textbook'), x)
    compiled = torch.compile(block, backend=backend, fullgraph=True)
    actual = run(compiled, x)
    graph, = graphs
    called = [getattr(node.target, '__name__', '') for node in graph.nodes
              if node.op == 'call_function']
    assert called.count('conv2d') == 4 and called.count('batch_norm') == 5
    for name, value in expected.items():
        assert torch.equal(actual[name.replace('grad ', 'grad _orig_mod.')
                                  .replace('buffer ', 'buffer _orig_mod.')], value), name
