"""Check that a folded model computes what the unfolded one computes."""

import copy
import math
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
which is more sensitive to rounding (ReparameterizeHook logs the value). Mistakes are larger: in
tests/folding/test_verify.py every block without its bias fails at this tolerance.
"""

MAX_SIZE = 64
"""Maximum height and width, in pixels, of what :func:`verify_on_batch` takes from an image."""

ACTIVATIONS = nn.ReLU.__module__  # if torch has float64 kernels

LEAST_SCALE = 1e-3
"""Smallest scale of a channel, relative to the map's largest value, to divide differences by.

If the branches cancel out, a channel holds only rounding errors.
"""


class FoldingError(RuntimeError):
    """A folded model does not compute what the unfolded one computes."""


def textbook(model: nn.Module) -> nn.Module:
    """Make every MobileOne block compute its branches one by one, in place; returns ``model``.

    In eval mode, the other branch engines fold on the fly, with the functions that also write
    folded files. Comparing with them would compare these functions with themselves.
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
    measured, not the effect of TF32 or autocast. If an operator has no float64 kernel, both run in
    float32, without TF32, and the log says so.

    A ReLU may leave next to nothing, so differences are divided by the size of its input.

    In two-stage detectors, both second stages get the unfolded model's proposals: rounding may
    reorder proposals with nearly equal scores and so the rows of the output. The maps of the first
    stage are compared instead.

    Args:
        model: The unfolded model. Neither model is changed.
        folded: The result of :func:`mobileone_mm.folding.reparameterize.reparameterize`.
        *args: Positional arguments of the models' ``forward``.
        tolerance: Largest accepted relative difference, of a block and of the whole.
        **kwargs: Keyword arguments of the models' ``forward``.

    Returns:
        The largest of ``max|a - b| / max|a|`` over the tensors that the models return.

    Raises:
        FoldingError: A difference is not below ``tolerance``; the message names the first block
            that differs.
    """
    device_type = next(model.parameters()).device.type
    with torch.no_grad(), torch.autocast(device_type, enabled=False):
        try:
            blocks, difference = _run_both(model, folded, args, kwargs, torch.float64)
        except (RuntimeError, TypeError) as error:
            # For example mmcv's compiled NMS and Apple's GPUs. torch has no error type for this,
            # but any other error occurs again in float32.
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

    Takes the first image, or the middle :data:`MAX_SIZE` pixels of a large one: the folded weights
    are the same everywhere, and a check in float64 must not delay training. A model that cannot
    run on so few pixels gets the whole image.

    Args:
        model: An unfolded detector, segmentor or classifier, or a ``BaseTTAModel`` around one; then
            the first view of the batch is taken.
        folded: The folded model.
        data_batch: A batch of a data loader, which is not changed.
        tolerance: As in :func:`verify_folding`.

    Returns:
        The result of :func:`verify_folding`.

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
    except RuntimeError:  # a layer needs larger maps, like LR-ASPP's pooling over 49x49
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
        scale_of: The least to divide by, for a tensor a.

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
    return torch.stack(ratios).max().item() if ratios else 0.0  # max() keeps NaN


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

    Copying it would take longer than running it. torch's ``functional_call`` would leave modules
    with two names, such as RTMDet's shared convolutions, with the temporary weights.
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
    """Set an instance attribute of a module until a stack is closed."""
    if name in module.__dict__:
        stack.callback(setattr, module, name, module.__dict__[name])
    else:
        stack.callback(delattr, module, name)
    setattr(module, name, value)


def _share_proposals(model: nn.Module, folded: nn.Module, stack: ExitStack
                     ) -> Tuple[List[Any], List[Any]]:
    """Pass the proposals of mmdet's two-stage detectors from one model to the other.

    Returns:
        Outputs of both first stages, ``model`` first, which are filled in when both have run.
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
    """Makes an unfolded model run each folded module beside its own, until a stack closes.

    Attributes:
        differences: The relative difference by name, in order of execution; a run fills it in.
    """

    def __init__(self, model: nn.Module, folded: nn.Module, stack: ExitStack) -> None:
        self.differences: Dict[str, float] = {}
        self._scales: Dict[int, Tuple[Tensor, float]] = {}  # by id() of a tensor that is kept
        counterparts = dict(folded.named_modules())
        for name in _foldable_names(model):
            if name in counterparts and not _holds_norm(counterparts[name]):
                self._watch(name, model.get_submodule(name), counterparts[name], stack)

    def scale_of(self, output: Tensor) -> float:
        """The largest input of the activation whose output this is; 0 for other tensors."""
        return self._scales.get(id(output), (output, 0.))[1]

    def _watch(self, name: str, module: nn.Module, counterpart: nn.Module, stack: ExitStack
               ) -> None:
        own = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            # The other module gets copies, since a module may change its input in place.
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
        known = self.differences.setdefault(name, difference)
        if difference > known or math.isnan(difference):  # NaN is the worst, and stays
            self.differences[name] = difference


def _difference_on_noise(block: nn.Module, forward: Callable[[Tensor], Tensor],
                         folded: nn.Module, like: Tensor) -> float:
    """The largest relative difference of any channel, before a MobileOne block's activation.

    The noise is large enough to reach every tap of the kernel.
    """
    cfg = cast(Any, block).conv_kwargs
    size = cfg['dilation'] * (cfg['kernel_size'] - 1) + 1 + cfg['stride']
    # Its own generator: a check must not change a training run.
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
    """Inputs of a module's own activations while it runs, in order."""
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
    """Names of the MobileOne blocks, and of other modules that hold a batch norm."""
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
    """The tensors in nested lists, tuples and dicts, in order."""
    if isinstance(structure, Tensor):
        yield structure
    elif isinstance(structure, (list, tuple, dict)):
        for item in structure.values() if isinstance(structure, dict) else structure:
            yield from tensors_of(item)
