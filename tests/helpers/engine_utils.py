"""Run a block or a network with both engines and compare all results."""

import copy
from typing import Callable, Dict, List, Optional, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mobileone_mm.backbones import MobileOneBlock


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Randomize gamma, beta and running statistics, and set train mode."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: Optional[Tensor], low: float, high: float) -> None:
        if tensor is not None:
            values = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.data.copy_(low + (high - low) * values)

    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            draw(norm.weight, .5, 1.5)
            draw(norm.bias, -.3, .3)
            draw(norm.running_mean, -1, 1)
            draw(norm.running_var, .5, 2)
    return module.train()


def set_engine(module: nn.Module, engine: str) -> nn.Module:
    """Set the branch engine of all blocks."""
    for block in module.modules():
        if hasattr(block, 'branch_engine'):
            block.branch_engine = engine
    return module


def relative_error(value: Tensor, reference: Tensor) -> float:
    """``max |a - b| / max |b|``."""
    scale = reference.double().abs().max().clamp_min(1e-300)
    return float((value.double() - reference.double()).abs().max() / scale)


def run(module: nn.Module, x: Tensor, forward: Optional[Callable] = None) -> Dict[str, Tensor]:
    """Outputs, gradients of input and parameters for one fixed output gradient, and buffers."""
    x = x.detach().clone().requires_grad_()
    outputs = (forward or (lambda m, t: m(t)))(module, x)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    generator = torch.Generator().manual_seed(1)
    grads = [torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y) for y in outputs]
    torch.autograd.backward(outputs, grads)
    result = {f'output {i}': y.detach() for i, y in enumerate(outputs)}
    if x.grad is not None:
        result['input'] = x.grad
    result.update((f'grad {n}', p.grad) for n, p in module.named_parameters() if p.grad is not None)
    result.update((f'buffer {n}', b.clone()) for n, b in module.named_buffers())
    return result


def mean_drift(dtype: torch.dtype, change: Callable = lambda block: None) -> float:
    """How far a pointwise block's mean is from the sum of beta, in rounding steps of ``dtype``.

    The input is far from zero, and halves of each filter nearly cancel there: the folded bias is
    small, and what the kernel's rounding does to the mean is not.
    """
    torch.manual_seed(0)
    block = set_engine(randomize(MobileOneBlock(48, 32, 1, num_conv_branches=2, act_cfg=None)),
                       'analytic')
    change(block)
    with torch.no_grad():
        for branch in block.rbr_conv:
            branch.conv.weight[:, 24:] = branch.conv.weight[:, :24] * 1.01
    x = torch.randn(4, 48, 20, 20) + torch.tensor([64., -64]).repeat_interleave(24).view(-1, 1, 1)
    with torch.autocast('cpu', dtype):
        y = block(x.to(dtype))
    beta = sum(branch.bn.bias for branch in block.rbr_conv)
    return float((y.double().mean((0, 2, 3)) - beta).abs().max() / torch.finfo(dtype).eps)


def both(module: nn.Module, x: Tensor, forward: Optional[Callable] = None) -> List[Dict]:
    """:func:`run` on copies with the textbook and the analytic engine."""
    return [run(set_engine(copy.deepcopy(module), engine), x, forward)
            for engine in ('textbook', 'analytic')]


def scale_noise(name: str, results: Dict[str, Tensor], module: nn.Module) -> float:
    """Size of the terms that cancel in the gradient of a depthwise 1x1 branch's weight.

    The norm after it makes the branch invariant to the weight's magnitude up to eps, so the
    gradient is a difference of two equal terms ``gamma dgamma / w``.
    """
    if not name.endswith('rbr_scale.conv.weight'):
        return 0.
    prefix = name[len('grad '):-len('conv.weight')]
    branch = module.get_submodule(prefix.rstrip('.'))
    if branch.conv.groups == 1 or branch.bn.weight is None or not branch.bn.weight.requires_grad:
        return 0.
    terms = branch.bn.weight * results[f'grad {prefix}bn.weight'] / branch.conv.weight.flatten()
    return float(terms.detach().abs().max())


def assert_same(results: Sequence[Dict[str, Tensor]], module: nn.Module, tolerance: float) -> None:
    """Both engines agree on everything, relative to each tensor's maximum."""
    textbook, analytic = results
    assert textbook.keys() == analytic.keys()
    for name, reference in textbook.items():
        scale = max(float(reference.double().abs().max()), scale_noise(name, textbook, module))
        error = float((analytic[name].double() - reference.double()).abs().max())
        assert error <= tolerance * scale + 1e-300, (
            f'{name}: differs by {error:.2e}, {error / max(scale, 1e-300):.2e} relative')
