"""Does a folded model compute what the model it was folded from computes?"""

import copy
from operator import methodcaller
from typing import Any, Callable, Dict, Iterator, List, Tuple

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
tests/deploy/test_verify.py has every block without its bias fail at this tolerance.
"""


class FoldingError(RuntimeError):
    """A folded model does not compute what the model it was folded from computes."""


def verify_folding(model: nn.Module,
                   folded: nn.Module,
                   *args: Any,
                   tolerance: float = DEFAULT_TOLERANCE,
                   **kwargs: Any) -> float:
    """Run both models on the same input, in eval mode, and compare every output tensor.

    Every folded block also gets the input that its unfolded counterpart gets: a wrong one is found
    even where later layers hide it, and named. Both run as float64 copies, so what is measured is
    the rounding of the folded weights alone, whatever TF32 or autocast would do to activations.
    Where an operator has no float64 kernel, both run in float32, without TF32, and the log says so.

    Of a detector of two stages, both second stages get the unfolded model's proposals: rounding may
    change the order of proposals of nearly the same score, hence of the rows of the output. The
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
            blocks, expected, actual = _run_both(model, folded, args, kwargs, 'double')
        except RuntimeError as error:
            # Such is mmcv's compiled NMS. torch has no type of error for it, but any other error
            # comes again in float32.
            cudnn = torch.backends.cudnn
            with cudnn.flags(enabled=cudnn.enabled, allow_tf32=False):
                blocks, expected, actual = _run_both(model, folded, args, kwargs, 'float')
            print_log(f'Folding is verified in float32, since float64 fails: {error}', 'current')
    for name, difference in blocks.items():
        if not difference < tolerance:  # catches NaN too
            raise FoldingError(f'{name} is the first module whose folded output differs: by '
                               f'{difference:.1e} (relative), tolerance {tolerance:.0e}')
    difference = relative_difference(expected, actual)
    if not difference < tolerance:
        raise FoldingError(
            f'folded and unfolded outputs differ by {difference:.1e} (relative), tolerance '
            f'{tolerance:.0e}, though each of the {len(blocks)} folded modules agrees by itself')
    return difference


def verify_on_batch(model: BaseModel,
                    folded: BaseModel,
                    data_batch: dict,
                    tolerance: float = DEFAULT_TOLERANCE) -> float:
    """Compare the raw outputs (``mode='tensor'``) of two mmengine models on a batch.

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
    data = model.data_preprocessor(copy.deepcopy(data_batch), False)
    return verify_folding(model, folded, **data, mode='tensor', tolerance=tolerance)


def relative_difference(expected: Any, actual: Any) -> float:
    """The largest of ``max|a - b| / max|a|`` over the tensors of two equal nested structures.

    Raises:
        ValueError: The structures or shapes differ, or hold no tensor.
    """
    pairs = list(zip(_tensors(expected), _tensors(actual)))
    shapes = [[tuple(t.shape) for t in _tensors(side)] for side in (expected, actual)]
    if not pairs or shapes[0] != shapes[1]:
        raise ValueError(f'cannot compare outputs of shapes {shapes[0]} and {shapes[1]}')
    tiny = torch.finfo(torch.float64).tiny
    ratios = [(a.double() - b.double()).abs().max() / a.double().abs().max().clamp(min=tiny)
              for a, b in pairs if a.numel()]
    return torch.stack(ratios).max().item() if ratios else 0.0  # max() hands NaN on


def _run_both(model: nn.Module, folded: nn.Module, args: tuple, kwargs: dict, precision: str
              ) -> Tuple[Dict[str, float], list, list]:
    """Run copies of both models.

    Returns:
        The blocks' relative differences, and the output tensors of the unfolded and the folded.
    """
    cast = methodcaller(precision)
    model, folded = (cast(copy.deepcopy(side)).eval() for side in (model, folded))
    args, kwargs = apply_to((args, kwargs), _is_float_tensor, cast)
    blocks = _compare_blocks(model, folded)
    first_stages = _share_proposals(model, folded)
    outputs = [side(*args, **kwargs) for side in (model, folded)]
    expected, actual = ([*maps, output] for maps, output in zip(first_stages, outputs))
    return blocks, expected, actual


def _share_proposals(model: nn.Module, folded: nn.Module) -> Tuple[List[Any], List[Any]]:
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
        head.predict = predict

    def record(result: Any) -> Any:
        proposals.append(result)
        return result

    watch(heads[0], maps[0], record)
    watch(heads[1], maps[1], lambda _: proposals.pop(0))
    return maps


def _compare_blocks(model: nn.Module, folded: nn.Module) -> Dict[str, float]:
    """Hook ``model`` to run each folded module beside its own; returns what a run will fill in.

    That is the relative difference by name, in the order of execution.
    """
    differences: Dict[str, float] = {}
    counterparts = dict(folded.named_modules())
    outputs = {}

    def before(name: str, args: tuple, kwargs: dict) -> None:
        # A copy, and before the module runs: it may work in place on its input.
        args, kwargs = apply_to((args, kwargs), _is_float_tensor, Tensor.clone)
        outputs[name] = counterparts[name](*args, **kwargs)

    def after(name: str, output: Any) -> None:
        difference = relative_difference(output, outputs.pop(name))
        # Not max(): it may drop a NaN.
        if not difference <= differences.setdefault(name, difference):
            differences[name] = difference

    for name in _foldable_names(model):
        if name in counterparts:
            module = model.get_submodule(name)
            module.register_forward_pre_hook(
                lambda _, args, kwargs, name=name: before(name, args, kwargs), with_kwargs=True)
            module.register_forward_hook(
                lambda _, args, output, name=name: after(name, output))
    return differences


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
        if name and (is_block or any(isinstance(c, _BatchNorm) for c in module.children())):
            yield name


def _is_float_tensor(item: Any) -> bool:
    return isinstance(item, Tensor) and item.is_floating_point()


def _tensors(structure: Any) -> Iterator[Tensor]:
    if isinstance(structure, Tensor):
        yield structure
    elif isinstance(structure, (list, tuple, dict)):
        for item in structure.values() if isinstance(structure, dict) else structure:
            yield from _tensors(item)
