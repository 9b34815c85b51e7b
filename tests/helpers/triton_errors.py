"""Compare errors of Triton kernels and textbook branches against float64.

    python tests/helpers/triton_errors.py [WORD...]  ->  a line per kind of block with all words,
                                                         such as nhwc float16; fails beyond limits

Runs on a GPU where there is one, otherwise in Triton's interpreter.
"""

import copy
import os
import sys
import time
from contextlib import ExitStack
from typing import Dict, Iterator, NamedTuple, Optional, Sequence
from unittest import mock

import torch

if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')

from paths import ROOT  # noqa: E402

sys.path.insert(0, str(ROOT))

from engine_utils import randomize, run, set_engine  # noqa: E402
from triton_bounds import bounds_checked  # noqa: E402

from mobileone_mm.backbones import MobileOneBlock  # noqa: E402
from mobileone_mm.branches import choose  # noqa: E402
from mobileone_mm.branches.triton import choose as blocks  # noqa: E402
from mobileone_mm.branches.triton import launch  # noqa: E402

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
HALVES = (torch.float16, torch.bfloat16)
if DEVICE == 'cpu':
    launch.PROGRAMS = 4  # the interpreter cannot use more
LAYOUTS = dict(nchw=torch.contiguous_format, nhwc=torch.channels_last)


class Case(NamedTuple):
    """A block and its input."""

    kind: str
    k: int
    stride: int = 1
    dilation: int = 1
    channels: int = 3
    out_channels: Optional[int] = None
    layout: str = 'nchw'
    dtype: torch.dtype = torch.float32
    offset: float = 0
    size: tuple = (9, 7)
    batch: int = 2
    act: bool = True
    frozen: bool = False

    def block(self) -> MobileOneBlock:
        depthwise = self.kind == 'depthwise'
        torch.manual_seed(0)
        block = randomize(MobileOneBlock(
            self.channels, self.out_channels or self.channels, 1 if self.kind == 'pointwise' else 3,
            stride=self.stride, dilation=self.dilation, num_conv_branches=self.k,
            act_cfg=dict(type='ReLU') if self.act else None,
            groups=self.channels if depthwise else 1))
        block.rbr_conv[0].bn.train(not self.frozen)
        return block

    def input(self) -> torch.Tensor:
        torch.manual_seed(1)
        x = torch.randn(self.batch, self.channels, *self.size) + self.offset
        return x.to(self.dtype).contiguous(memory_format=LAYOUTS[self.layout])

    def runs_here(self) -> bool:
        """The interpreter has no products of bfloat16."""
        return DEVICE != 'cpu' or self.kind != 'pointwise' or self.dtype != torch.bfloat16

    def __str__(self) -> str:
        return (f'{self.kind} k{self.k} s{self.stride} d{self.dilation} {self.channels}->'
                f'{self.out_channels or self.channels} {self.layout} {str(self.dtype)[6:]} '
                f'{self.batch}x{self.size[0]}x{self.size[1]}'
                + (f' +{self.offset:g}' if self.offset else '') + ('' if self.act else ' no ReLU')
                + (' frozen' if self.frozen else ''))


def poisoned(*args, **kwargs) -> torch.Tensor:
    """``torch.empty`` whose values show where nothing was written."""
    result = _EMPTY(*args, **kwargs)
    return result.fill_(float('nan')) if result.is_floating_point() else result


_EMPTY = torch.empty


def errors(case: Case) -> Dict[str, Dict[str, float]]:
    """The largest root mean square error, by engine and kind of tensor."""
    exact = run(set_engine(case.block().double(), 'textbook'), case.input().double())
    result = {}
    for name in ('textbook', 'analytic'):
        block = set_engine(case.block().to(DEVICE), name)
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(choose, '_uses_triton', lambda *_: True))
            stack.enter_context(mock.patch('torch.empty', poisoned))
            stack.enter_context(mock.patch.object(blocks, 'tensor_cores', lambda x: 9))
            called = stack.enter_context(mock.patch.object(
                choose, 'triton_forward', wraps=choose.triton_forward))
            if DEVICE == 'cpu':
                stack.enter_context(bounds_checked())
            found = run(block, case.input().to(DEVICE), lambda module, x: forward(module, x, case))
        if (name == 'analytic') != bool(called.call_count):
            raise RuntimeError(f'{case}: not computed by Triton')
        kinds: Dict[str, float] = {}
        for key, value in exact.items():
            if key.endswith('num_batches_tracked'):
                if int(found[key]) != int(value):
                    raise RuntimeError(f'{case}: {key} is {found[key]}')
                continue
            if key.endswith('scale.conv.weight'):
                continue  # a difference of two terms that are equal up to eps: rounding noise
            kind = 'output' if key.startswith('output') else key.rsplit('.', 1)[-1]
            difference = found[key].detach().cpu().double() - value
            scale = value.std(unbiased=False).clamp_min(1e-3 * value.abs().max())
            kinds[kind] = max(kinds.get(kind, 0.), float(difference.square().mean().sqrt() / scale))
        result[name] = kinds
    return result


def forward(block: torch.nn.Module, x: torch.Tensor, case: Case) -> torch.Tensor:
    """Use autocast for half precision."""
    with torch.autocast(DEVICE, case.dtype, enabled=case.dtype != torch.float32):
        return block(x)


def excess(found: Dict[str, Dict[str, float]], case: Case) -> Dict[str, str]:
    """Errors beyond the limit: twice the textbook's error, or once in half precision.

    Plus a margin: 5 % and a tenth of a rounding step in half precision, or else rounding noise.
    """
    half = case.dtype != torch.float32
    factor, noise = (1.05, torch.finfo(case.dtype).eps / 10) if half else (2, 2e-6)
    return {kind: f'{error:.1e} > {found["textbook"][kind]:.1e}'
            for kind, error in found['analytic'].items()
            if not error <= factor * found['textbook'][kind] + noise}


def small_cases() -> Iterator[Case]:
    """Cases for the interpreter and for GPUs."""
    for layout in LAYOUTS:
        yield Case('depthwise', 4, layout=layout)
        yield Case('depthwise', 1, 2, layout=layout)
        yield Case('depthwise', 2, 1, 2, layout=layout, act=False)
        yield Case('depthwise', 1, layout=layout, offset=1000, channels=2)
        yield Case('depthwise', 2, 2, 3, layout=layout, size=(8, 5))
        yield Case('depthwise', 1, layout=layout, size=(1, 5))
        yield Case('pointwise', 4, layout=layout)
        yield Case('pointwise', 2, channels=5, out_channels=18, layout=layout)
        yield Case('pointwise', 2, layout=layout, offset=1000)
        yield Case('depthwise', 2, layout=layout, frozen=True, channels=2)
        yield Case('pointwise', 2, channels=5, out_channels=18, layout=layout, frozen=True)
        yield Case('stem', 1, 2, out_channels=5, layout=layout)
        for dtype in HALVES:
            yield Case('depthwise', 2, 2, layout=layout, dtype=dtype, channels=2)
            yield Case('pointwise', 2, channels=5, out_channels=18, layout=layout, dtype=dtype)
            yield Case('pointwise', 1, layout=layout, dtype=dtype, act=False)


def large_cases() -> Iterator[Case]:
    """Sizes of S0 and S1, only for GPUs."""
    for layout in LAYOUTS:
        for dtype in (torch.float32, *HALVES):
            common = dict(layout=layout, dtype=dtype, batch=8)
            yield Case('depthwise', 4, 2, channels=48, size=(112, 112), **common)
            yield Case('depthwise', 4, channels=128, size=(28, 28), **common)
            yield Case('depthwise', 4, channels=128, size=(28, 28), offset=100, **common)
            yield Case('depthwise', 1, channels=256, size=(14, 14), **common)
            yield Case('depthwise', 4, 1, 2, channels=256, size=(14, 14), **common)
            yield Case('stem', 1, 2, out_channels=48, size=(64, 64), **common)
            yield Case('pointwise', 4, channels=48, size=(56, 56), **common)
            yield Case('pointwise', 4, channels=128, out_channels=256, size=(14, 14), **common)
            yield Case('pointwise', 4, channels=256, size=(14, 14), **common)
            yield Case('pointwise', 4, channels=256, out_channels=1024, size=(7, 7), **common)
            yield Case('pointwise', 2, channels=256, size=(14, 14), offset=100, **common)


def check(words: Sequence[str] = (), large: bool = False) -> Dict[str, Dict[str, str]]:
    """Print a line per case; returns the errors beyond the limit, by case."""
    bad = {}
    for case in [*small_cases(), *(large_cases() if large else ())]:
        if not case.runs_here() or not set(words) <= set(str(case).split()):
            continue
        start = time.time()
        try:
            found = errors(copy.copy(case))
            wrong = excess(found, case)
        except Exception as error:  # continue with the other cases
            found, wrong = {}, {'raised': f'{type(error).__name__}: {str(error)[:300]}'}
        if wrong:
            bad[str(case)] = wrong
        print(f'{case}: ' + ', '.join(
            f'{kind} {error:.0e} ({found["textbook"][kind]:.0e})'
            for kind, error in found.get('analytic', {}).items())
            + (f' WRONG {wrong}' if wrong else '') + f' [{time.time() - start:.1f} s]', flush=True)
    return bad


def main() -> int:
    """Disable TF32, as the reference requires."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    bad = check(sys.argv[1:], large=DEVICE == 'cuda')
    print('all accurate' if not bad else f'{len(bad)} cases are not accurate enough')
    return bool(bad)


if __name__ == '__main__':
    sys.exit(main())
