"""Does a folded model compute what the model it was folded from computes?"""

import copy
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Dict, Iterator, List, Tuple, cast

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.utils import apply_to
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

DEFAULT_TOLERANCE = 1e-3
"""Largest accepted relative difference of folded and unfolded outputs.

Rounding the folded weights to float32 costs about 1e-7, but up to 1e-5 in a barely trained network,
whose outputs react more to any rounding (ReparameterizeHook logs the value). Mistakes are larger:
tests/folding/test_verify.py has every block without its bias fail at this tolerance.
"""

MAX_SIZE = 64
"""Height and width in pixels up to which :func:`verify_on_batch` looks at an image."""

ACTIVATIONS = nn.ReLU.__module__  # where torch has them all

LEAST_SCALE = 1e-3
"""Of a map's largest value: with a channel that has only less, its difference is divided by this.

Where the branches cancel out, a channel holds nothing but rounding.
"""


class FoldingError(RuntimeError):
    """A folded model does not compute what the model it was folded from computes."""


def textbook(model: nn.Module) -> nn.Module:
    """Let every MobileOne block compute its branches one by one, in place; returns ``model``.

    In eval mode the other branch engines fold on the fly, with the functions that fold for good.
    Comparing a folded model with such a model would compare these functions with themselves.
    """
    for module in model.modules():
        if hasattr(module, 'branch_engine'):
            cast(Any, module).branch_engine = 'textbook'
    return model


def verify_folding(model: nn.Module,
                   folded: nn.Module,
                   *args: Any,
                   tolerance: float = DEFAULT_TOLERANCE,
                   **kwargs: Any) -> float:
    """Run both models on the same input, in eval mode, and compare every output tensor.

    The unfolded model computes its branches one by one, whatever its ``branch_engine``.

    Every folded block also gets the input of its unfolded counterpart, and noise, on which each
    channel is compared separately. A wrong channel is found and named even if a ReLU or later
    layers hide it. Both models run in float64, so only the rounding of the folded weights is
    measured, not what TF32 or autocast do to activations. If an operator has no float64 kernel,
    both run in float32, without TF32, and the log says so.

    A ReLU may leave next to nothing, so differences are divided by the size of its input.

    In a two-stage detector, both second stages get the unfolded model's proposals, because rounding
    may change the order of proposals of nearly the same score, and so the rows of the output. The
    first stage's maps are compared instead.

    Args:
        model: The unfolded model. Neither model is changed.
        folded: What :func:`mobileone_mm.folding.reparameterize.reparameterize` made of it.
        *args: Positional arguments of the models' ``forward``.
        tolerance: Largest accepted relative difference, of a block and of the whole.
        **kwargs: Keyword arguments of the models' ``forward``.

    Returns:
        The largest of ``max|a - b| / max|a|`` over the tensors that the models return.

    Raises:
        FoldingError: A difference is not below ``tolerance``; names the first block that differs.
    """
    device_type = next(model.parameters()).device.type
    with torch.no_grad(), torch.autocast(device_type, enabled=False):
        try:
            blocks, difference = _run_both(model, folded, args, kwargs, torch.float64)
        except (RuntimeError, TypeError) as error:
            # Such are mmcv's compiled NMS and Apple's GPUs. torch has no type of error for it, but
            # any other error comes again in float32.
            cudnn = torch.backends.cudnn
            with cudnn.flags(enabled=cudnn.enabled, allow_tf32=False):
                blocks, difference = _run_both(model, folded, args, kwargs, torch.float32)
            print_log(f'Folding is verified in float32, since float64 fails: {error}', 'current')
    for name, of_block in blocks.items():
        if not of_block < tolerance:  # catches NaN too
            raise FoldingError(f'{name} is the first module whose folded output differs: by '
                               f'{of_block:.1e} (relative), tolerance {tolerance:.0e}')
    if not difference < tolerance:
        raise FoldingError(
            f'folded and unfolded outputs differ by {difference:.1e} (relative), tolerance '
            f'{tolerance:.0e}, though each of the {len(blocks)} folded modules agrees by itself')
    return difference


def verify_on_batch(model: BaseModel,
                    folded: BaseModel,
                    data_batch: dict,
                    tolerance: float = DEFAULT_TOLERANCE) -> float:
    """Compare the raw outputs (``mode='tensor'``) of two mmengine models on an image of a batch.

    Takes the first image, and of a large one the middle :data:`MAX_SIZE` pixels: the folded
    weights are the same everywhere, and a check in float64 must not delay the training. A model
    that cannot run on so few pixels gets the whole image.

    Args:
        model: An unfolded detector, segmentor or classifier, or a ``BaseTTAModel`` around one, of
            whose batch the first view is taken.
        folded: The same, folded.
        data_batch: As a data loader gives it; not changed.
        tolerance: As in :func:`verify_folding`.

    Returns:
        As :func:`verify_folding`.

    Raises:
        FoldingError: As :func:`verify_folding`.
    """
    if isinstance(model, BaseTTAModel):
        model, folded = model.module, folded.module
        data_batch = {key: views[0] for key, views in data_batch.items()}
    data = model.data_preprocessor(copy.deepcopy(first_of_batch(data_batch)), False)
    middle = apply_to(data, lambda item: isinstance(item, Tensor) and item.dim() == 4, _middle)
    try:
        return verify_folding(model, folded, **middle, mode='tensor', tolerance=tolerance)
    except FoldingError:
        raise
    except RuntimeError:  # a layer that needs larger maps, like LR-ASPP's pooling over 49x49
        return verify_folding(model, folded, **data, mode='tensor', tolerance=tolerance)


def first_of_batch(data_batch: Any) -> Any:
    """A batch of the first image alone."""
    if isinstance(data_batch, dict):
        return {key: first_of_batch(value) for key, value in data_batch.items()}
    return data_batch[:1] if isinstance(data_batch, (list, tuple, Tensor)) else data_batch


def relative_difference(expected: Any, actual: Any,
                        scale_of: Callable[[Tensor], float] = lambda _: 0.) -> float:
    """The largest of ``max|a - b| / max|a|`` over the tensors of two equal nested structures.

    Args:
        expected: Tensors a in lists, tuples and dicts.
        actual: Tensors b.
        scale_of: What to divide by at least, for a tensor a.

    Raises:
        ValueError: The structures or shapes differ, or hold no tensor.
    """
    pairs = list(zip(tensors_of(expected), tensors_of(actual)))
    shapes = [[tuple(t.shape) for t in tensors_of(side)] for side in (expected, actual)]
    if not pairs or shapes[0] != shapes[1]:
        raise ValueError(f'cannot compare outputs of shapes {shapes[0]} and {shapes[1]}')
    tiny = torch.finfo(torch.float64).tiny
    ratios = [(a.double() - b.double()).abs().max()
              / a.double().abs().max().clamp(min=max(tiny, scale_of(a)))
              for a, b in pairs if a.numel()]
    return torch.stack(ratios).max().item() if ratios else 0.0  # max() hands NaN on


def _middle(images: Tensor) -> Tensor:
    """The middle (N, C, h, w) of images (N, C, H, W)."""
    for axis in (2, 3):
        length = min(images.shape[axis], MAX_SIZE)
        images = images.narrow(axis, (images.shape[axis] - length) // 2, length)
    return images.contiguous()


def _run_both(model: nn.Module, folded: nn.Module, args: tuple, kwargs: dict, dtype: torch.dtype
              ) -> Tuple[Dict[str, float], float]:
    """Run both models; returns the relative differences of the blocks and of the outputs."""
    args, kwargs = apply_to((args, kwargs), _is_float_tensor, lambda tensor: tensor.to(dtype))
    with ExitStack() as stack:
        for side in (model, folded):
            _prepare(side, dtype, stack)
        watch = _BlockWatch(model, folded, stack)
        first_stages = _share_proposals(model, folded, stack)
        outputs = [side(*args, **kwargs) for side in (model, folded)]
    expected, actual = ([*maps, output] for maps, output in zip(first_stages, outputs))
    return watch.differences, relative_difference(expected, actual, watch.scale_of)


def _prepare(model: nn.Module, dtype: torch.dtype, stack: ExitStack) -> None:
    """Put a model into eval mode, with textbook branches and cast weights, until a stack is closed.

    To copy it would take longer than to run it. torch's ``functional_call`` leaves modules that
    have two names, as RTMDet's shared convolutions, with the weights that it was to put for now.
    """
    for module in model.modules():
        _set_for_now(stack, module, 'training', False)
        if hasattr(module, 'branch_engine'):
            _set_for_now(stack, module, 'branch_engine', 'textbook')
        for tensors in cast(List[Dict[str, Tensor]], [module._parameters, module._buffers]):
            for name, tensor in tensors.items():
                if _is_float_tensor(tensor):
                    stack.callback(tensors.__setitem__, name, tensor)
                    tensors[name] = tensor.to(dtype)


def _set_for_now(stack: ExitStack, module: nn.Module, name: str, value: Any) -> None:
    """Set an attribute of a module's own until a stack is closed."""
    if name in module.__dict__:
        stack.callback(setattr, module, name, module.__dict__[name])
    else:
        stack.callback(delattr, module, name)
    setattr(module, name, value)


def _share_proposals(model: nn.Module, folded: nn.Module, stack: ExitStack
                     ) -> Tuple[List[Any], List[Any]]:
    """Hand the proposals of mmdet's detectors of two stages from one model to the other.

    Returns:
        What the first stages of both will have computed once both have run, ``model`` first.
    """
    maps: Tuple[List[Any], List[Any]] = ([], [])
    heads = [getattr(side, 'rpn_head', None) for side in (model, folded)]
    if not hasattr(heads[0], 'predict'):
        return maps
    proposals: List[Any] = []

    def watch(head: Any, found: List[Any], give: Callable[[Any], Any]) -> None:
        own = head.predict

        def predict(*args: Any, **kwargs: Any) -> Any:
            with head.register_forward_hook(lambda *call: found.append(call[-1])):
                return give(own(*args, **kwargs))
        _set_for_now(stack, head, 'predict', predict)

    def record(result: Any) -> Any:
        proposals.append(result)
        return result

    watch(heads[0], maps[0], record)
    watch(heads[1], maps[1], lambda _: proposals.pop(0))
    return maps


class _BlockWatch:
    """Makes an unfolded model run each folded module beside its own, until a stack is closed.

    Attributes:
        differences: What a run fills in: the relative difference by name, in order of execution.
    """

    def __init__(self, model: nn.Module, folded: nn.Module, stack: ExitStack) -> None:
        self.differences: Dict[str, float] = {}
        self._scales: Dict[int, Tuple[Tensor, float]] = {}  # by the id of a tensor that is kept
        counterparts = dict(folded.named_modules())
        for name in _foldable_names(model):
            if name in counterparts and not _holds_norm(counterparts[name]):
                self._watch(name, model.get_submodule(name), counterparts[name], stack)

    def scale_of(self, output: Tensor) -> float:
        """The largest value that the activation was given whose output this is; 0 of others."""
        return self._scales.get(id(output), (output, 0.))[1]

    def _watch(self, name: str, module: nn.Module, counterpart: nn.Module, stack: ExitStack
               ) -> None:
        own = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            # Copies for the other, since a module may work in place on its input.
            copies, named = apply_to((args, kwargs), _is_float_tensor, Tensor.clone)
            actual = counterpart(*copies, **named)
            with _inputs_of_activations(module) as inputs:
                expected = own(*args, **kwargs)
            scale = max((item.abs().max().item() for item in inputs if item.numel()), default=0.)
            self._scales.update((id(item), (item, scale)) for item in tensors_of(expected))
            self._note(name, relative_difference(expected, actual, lambda _: scale))
            if hasattr(module, 'conv_kwargs'):
                self._note(name, _difference_on_noise(module, own, counterpart, args[0]))
            return expected
        _set_for_now(stack, module, 'forward', forward)

    def _note(self, name: str, difference: float) -> None:
        # Not max(): it may drop a NaN.
        if not difference <= self.differences.setdefault(name, difference):
            self.differences[name] = difference


def _difference_on_noise(block: nn.Module, forward: Callable[[Tensor], Tensor],
                         folded: nn.Module, like: Tensor) -> float:
    """The largest relative difference of a channel, before a MobileOne block's activation.

    The noise is as large as it takes to reach every tap of the kernel.
    """
    cfg = cast(Any, block).conv_kwargs
    size = cfg['dilation'] * (cfg['kernel_size'] - 1) + 1 + cfg['stride']
    # A generator of its own: a check must not disturb a training run.
    noise = torch.randn(1, like.shape[1], size, size, generator=torch.Generator().manual_seed(0))
    outputs = []
    for module, call in ((block, forward), (folded, folded)):
        with _inputs_of_activations(module) as inputs:
            output = call(noise.to(like))
        outputs.append(inputs[-1] if inputs else output)
    expected, actual = outputs
    scale = expected.abs().amax((0, 2, 3))
    least = max(LEAST_SCALE * scale.max().item(), torch.finfo(scale.dtype).tiny)
    return ((expected - actual).abs().amax((0, 2, 3)) / scale.clamp(min=least)).max().item()


@contextmanager
def _inputs_of_activations(module: nn.Module) -> Iterator[List[Tensor]]:
    """What a module's own activations are given while it runs, in their order."""
    found: List[Tensor] = []
    handles = [
        child.register_forward_pre_hook(lambda _, args: found.append(args[0].clone()))
        for child in module.children() if type(child).__module__ == ACTIVATIONS]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _foldable_names(model: nn.Module) -> Iterator[str]:
    """Names of the MobileOne blocks, and of what holds a batch norm outside of them."""
    blocks: Tuple[str, ...] = ()
    for name, module in model.named_modules():
        if name.startswith(blocks):
            continue
        is_block = hasattr(module, 'switch_to_deploy') and not any(
            hasattr(child, 'switch_to_deploy') for child in list(module.modules())[1:])
        if is_block:
            blocks += (f'{name}.', )
        if name and (is_block or _holds_norm(module)):
            yield name


def _holds_norm(module: nn.Module) -> bool:
    return any(isinstance(child, _BatchNorm) for child in module.children())


def _is_float_tensor(item: Any) -> bool:
    return isinstance(item, Tensor) and item.is_floating_point()


def tensors_of(structure: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and dicts, in their order."""
    if isinstance(structure, Tensor):
        yield structure
    elif isinstance(structure, (list, tuple, dict)):
        for item in structure.values() if isinstance(structure, dict) else structure:
            yield from tensors_of(item)
