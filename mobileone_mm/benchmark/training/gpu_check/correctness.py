"""Compare each kind of block on the device with its textbook branches in float64 on the CPU."""

import copy
from itertools import islice
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ....backbones import MobileOneBlock
from .report import Report, Stopwatch, attempt

__all__ = ['check_blocks']

# Arguments of a block; k is the number of convolution branches.
KINDS: Dict[str, dict] = {
    'depthwise, k=4': dict(kernel_size=3, groups=1, num_conv_branches=4),
    'depthwise, k=4, stride 2': dict(kernel_size=3, stride=2, groups=1, num_conv_branches=4),
    'depthwise, k=4, dilation 2': dict(kernel_size=3, dilation=2, groups=1, num_conv_branches=4),
    'depthwise 5x5, k=2': dict(kernel_size=5, groups=1, num_conv_branches=2),
    'depthwise, k=1': dict(kernel_size=3, groups=1),
    'depthwise, k=1, stride 2': dict(kernel_size=3, stride=2, groups=1),
    'pointwise, k=4': dict(kernel_size=1, num_conv_branches=4),
    'pointwise, k=4, wider': dict(kernel_size=1, num_conv_branches=4, wider=2),
    'pointwise, k=1': dict(kernel_size=1),
    'pointwise, k=1, wider': dict(kernel_size=1, wider=2),
    'pointwise, k=2, squeeze-and-excitation': dict(kernel_size=1, num_conv_branches=2,
                                                   use_se=True),
    'dense 3x3, k=4, stride 2': dict(kernel_size=3, stride=2, num_conv_branches=4, wider=2),
}
LAYOUTS = dict(NCHW=torch.contiguous_format, NHWC=torch.channels_last)
# Rounding a result once may cost this much; smaller errors are not compared.
FLOOR = {torch.float32: torch.finfo(torch.float32).eps,
         torch.float16: torch.finfo(torch.float16).eps / 2,
         torch.bfloat16: torch.finfo(torch.bfloat16).eps / 2}
# Limit of an engine's error over the textbook's; in half precision it must not be worse.
MOST_RATIO = {torch.float32: 2., torch.float16: 1.1, torch.bfloat16: 1.1}
# Limit of the textbook's own error on the device: beyond it, the comparison says nothing.
MOST_ERROR = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
HALF_DTYPES = (torch.float16, torch.bfloat16)
OFFSET = 1000.  # in standard deviations; rounding errors grow with it


class Case(NamedTuple):
    """One comparison."""

    kind: str
    dtype: torch.dtype
    layout: str
    offset: float


def check_blocks(report: Report, clock: Stopwatch, device: str, engines: Sequence[str],
                 tiny: bool, shard: Tuple[int, int] = (0, 1)) -> None:
    """Add a row for each kind, precision and layout to the section 'correctness'.

    Errors are ``|a - b| / |b|`` (2-norms) of outputs, of the input's gradient and of all
    parameters' gradients and running statistics. A row holds the worst ratio of an engine's error
    to the textbook's on the same device.

    Args:
        report: Where rows go.
        clock: When it has run out, the rest is skipped, and a row says so.
        device: Device of the blocks.
        engines: Engines to compare with the textbook.
        tiny: Whether to use few channels and pixels, for a test.
        shard: (first, step) in the list of cases.
    """
    for case in islice(_cases(tiny), shard[0], None, shard[1]):
        if clock.left() < 0:
            report.add('correctness', kind='the rest', verdict='skipped: out of time')
            return
        row = dict(kind=case.kind, dtype=str(case.dtype)[6:], layout=case.layout,
                   offset=case.offset)
        if not report.has('correctness', **row):
            result = attempt(_compare, case, device, engines, tiny)
            report.add('correctness', **row, **_judge(case, result))
            report.check_device()


def _cases(tiny: bool) -> Iterator[Case]:
    """The common cases come first, in case time runs out."""
    half = (torch.bfloat16, ) if tiny else (torch.float16, torch.bfloat16)
    for dtype in (torch.float32, *half):
        yield from (Case(kind, dtype, 'NCHW', 0.) for kind in KINDS)
    yield from (Case(kind, torch.float32, 'NCHW', OFFSET) for kind in KINDS)
    for dtype in (torch.float32, *half):
        yield from (Case(kind, dtype, 'NHWC', 0.) for kind in KINDS)


def _judge(case: Case, result: dict) -> dict:
    """The numbers and the verdict of a row."""
    if 'failed' in result:
        return dict(verdict=result['failed'])
    textbook = result.pop('textbook')
    worst = max(textbook.values())
    row = dict(textbook_error=worst)
    size = max(1., case.offset)
    bad = not worst <= MOST_ERROR[case.dtype] * size
    verdicts = ['the textbook is off'] if bad else []
    details = {'textbook': textbook}
    for engine, errors in result.items():
        if 'failed' in errors:
            verdicts.append(f'{engine}: {errors["failed"]}')
            continue
        floor = FLOOR[case.dtype] * size
        ratios = {key: max(error, floor) / max(textbook[key], floor)
                  for key, error in errors.items()}
        name = max(ratios, key=ratios.__getitem__)
        row[f'{engine}_error'], row[f'{engine}_ratio'] = max(errors.values()), ratios[name]
        details[engine] = errors
        if not ratios[name] <= MOST_RATIO[case.dtype]:
            verdicts.append(f'{engine} is worse in {name}')
    return dict(**row, verdict='; '.join(verdicts) or 'ok', details=details)


def _compare(case: Case, device: str, engines: Sequence[str], tiny: bool) -> dict:
    """Errors by engine, including the textbook."""
    block, x = _make(case, tiny)
    grad = _telling_grad(block, x)
    expected = _run(torch.float64, copy.deepcopy(block).double(), x.double(), grad)
    result: Dict[str, dict] = {}
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for engine in ('textbook', *engines):
            layout: Any = dict(memory_format=LAYOUTS[case.layout])  # torch's hints lack it
            net: Any = copy.deepcopy(block).to(device, **layout)
            net.branch_engine = engine
            at = x.to(device).contiguous(memory_format=LAYOUTS[case.layout])
            outcome = attempt(_run, case.dtype, net, at, grad)
            result[engine] = outcome if 'failed' in outcome else _errors(outcome, expected)
    if 'failed' in result['textbook']:
        return result['textbook']
    return result


def _make(case: Case, tiny: bool) -> Tuple[nn.Module, Tensor]:
    """A block with nontrivial parameters, and an input that the precision can represent."""
    generator = torch.Generator().manual_seed(1)
    channels, size, batch = (16, 12, 4) if tiny else (64, 28, 8)
    kwargs = dict(KINDS[case.kind])
    if 'groups' in kwargs:
        kwargs['groups'] = channels
    block = MobileOneBlock(channels, channels * kwargs.pop('wider', 1), **kwargs,
                           branch_engine='textbook').train()
    with torch.no_grad():
        for module in block.modules():
            if isinstance(module, _BatchNorm):
                for parameter, low in ((module.weight, .5), (module.bias, -.5)):
                    parameter.copy_(low + torch.rand(parameter.shape, generator=generator))
            elif isinstance(module, nn.Conv2d):
                bound = module.weight[0].numel() ** -.5
                module.weight.copy_(bound * torch.randn(module.weight.shape, generator=generator))
    x = torch.randn(batch, channels, size, size + 2, generator=generator) + case.offset
    return block, x.to(case.dtype)


def _telling_grad(block: nn.Module, x: Tensor) -> Tensor:
    """A gradient for the output, zero where rounding decides whether the ReLU lets it pass."""
    block = copy.deepcopy(block).double()
    block.activation = nn.Identity()
    with torch.no_grad():
        y = block(x.double())
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    return grad * (y.abs() > .1 * y.std())


def _run(dtype: torch.dtype, net: nn.Module, x: Tensor, grad: Tensor) -> Dict[str, Tensor]:
    """Output, gradients and running statistics; autocast gives half precision."""
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with torch.autocast(x.device.type, dtype=dtype, enabled=dtype in HALF_DTYPES):
        y = net(leaf)
    y.backward(grad.to(y))
    return _collect(net, y, leaf)


def _collect(net: nn.Module, y: Tensor, leaf: Tensor) -> Dict[str, Tensor]:
    """On the CPU, in float64."""
    found = {'output': y, 'input grad': leaf.grad}
    found.update((f'grad {name}', p.grad) for name, p in net.named_parameters())
    found.update((f'buffer {name}', b) for name, b in net.named_buffers() if b.dim())
    return {name: tensor.detach().double().cpu() for name, tensor in found.items()
            if tensor is not None}


def _errors(actual: Dict[str, Tensor], expected: Dict[str, Tensor]) -> Dict[str, float]:
    """Errors by group; for several tensors, the root of the summed squares over their norms'.

    Running means are measured in standard deviations, since they may be nearly zero.
    """
    groups: Dict[str, List[str]] = {'output': ['output'], 'input grad': ['input grad']}
    for name in expected:
        kind = name.split()[0]
        if ' se.' in name:
            continue  # engines do not compute it
        if kind in ('grad', 'buffer'):
            last = name.split('.')[-1] + ('' if '.bn.' in name or 'skip' in name else ' conv')
            groups.setdefault(f'{kind} {last}', []).append(name)
    result = {}
    for group, names in groups.items():
        off = sum(float((actual[n] - expected[n]).square().sum()) for n in names)
        whole = sum(float(expected[n].square().sum()) for n in names)
        if group == 'buffer running_mean':
            whole += sum(float(expected[n.replace('mean', 'var')].sum()) for n in names)
        result[group] = (off / max(whole, 1e-300)) ** .5
    return result
