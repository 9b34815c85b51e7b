"""The operators for ``torch.compile``, on a CPU, where they run the reference."""

import copy

import pytest
import torch
from engine_utils import assert_same, randomize, run, set_engine

from mobileone_mm.backbones import MobileOneBlock
from mobileone_mm.branches import choose

BLOCKS = dict(
    depthwise=dict(kernel_size=3, groups=4, num_conv_branches=3),
    strided=dict(kernel_size=3, groups=4, stride=2, num_conv_branches=1),
    dilated=dict(kernel_size=3, groups=4, dilation=2, act_cfg=None, num_conv_branches=2),
    pointwise=dict(kernel_size=1, num_conv_branches=3))


@pytest.fixture(autouse=True)
def _triton_is_used(monkeypatch):
    monkeypatch.setattr(choose, '_uses_triton', lambda block, x: True)
    torch._dynamo.reset()


def graphs_of(block, x):
    """Gradients and buffers by a compiled forward, and the graphs that were compiled."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return torch._dynamo.lookup_backend('aot_eager')(graph, inputs)

    compiled = torch.compile(block, fullgraph=True, backend=backend)
    return run(block, x, lambda _, t: compiled(t)), graphs


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('name', BLOCKS)
def test_a_compiled_block_is_one_graph_with_the_operator(name, layout):
    """Outputs, gradients and running statistics equal those of the branches one by one."""
    block = randomize(MobileOneBlock(4, 4, **BLOCKS[name]))
    x = torch.randn(2, 4, 9, 7).contiguous(memory_format=layout)
    expected = run(set_engine(copy.deepcopy(block), 'textbook'), x)
    found, graphs = graphs_of(set_engine(block, 'analytic'), x)
    assert_same([expected, found], block, 2e-5)
    assert len(graphs) == 1
    called = [str(node.target) for node in graphs[0].graph.nodes if node.op == 'call_function']
    assert any('mobileone_mm.branches' in target for target in called), called
    assert not any('batch_norm' in target for target in called), called


@pytest.mark.parametrize('name', BLOCKS)
def test_operators_keep_their_contract(name):
    """Shapes, strides and gradients of the operators and of their fakes, by torch's own check."""
    from mobileone_mm.branches.triton import ops
    block = MobileOneBlock(4, 4, **BLOCKS[name])
    fold = choose_fold(block)
    params = torch.rand(sum(p.numel() for p in block.parameters()))
    x = torch.randn(2, 4, 9, 7)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = x.contiguous(memory_format=layout).requires_grad_()
        torch.library.opcheck(
            ops._forward, (x, params.clone().requires_grad_(), 4, *ops._pack(fold)))


def choose_fold(block):
    from mobileone_mm.branches.triton.block import Fold
    cfg = block.conv_kwargs
    return Fold(len(block.rbr_conv), block.rbr_scale is not None, block.rbr_skip is not None,
                cfg['groups'] > 1, cfg['stride'], cfg['dilation'], 1e-5,
                isinstance(block.activation, torch.nn.ReLU))
