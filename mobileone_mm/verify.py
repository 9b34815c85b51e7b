"""Does a folded model compute what the model it was folded from computes?"""

import copy
from typing import Any, Callable, Dict, Iterator, List, Tuple

import torch
from mmengine.model import BaseTTAModel
from mmengine.utils import apply_to
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

DEFAULT_TOLERANCE = 1e-5
"""Largest accepted relative difference; see :func:`verify_folding`."""


class FoldingError(RuntimeError):
    """A folded model does not compute what the model it was folded from computes."""


def verify_folding(model: nn.Module,
                   folded: nn.Module,
                   *args: Any,
                   tolerance: float = DEFAULT_TOLERANCE,
                   **kwargs: Any) -> float:
    """Run both models on the same input, in eval mode, and compare every output tensor.

    Both run as float64 copies, one at a time, so what is measured is the rounding of the folded
    weights alone, whatever TF32, autocast or the order of summation do to float32 activations.

    Args:
        model: The unfolded model. Neither model is changed.
        folded: What :func:`mobileone_mm.deploy.reparameterize` made of it.
        *args: Positional arguments of the models' ``forward``.
        tolerance: Largest accepted relative difference. Rounding a folded net to float32 costs
            about 1e-7, an error in one block 1e-2 and more.
        **kwargs: Keyword arguments of the models' ``forward``.

    Returns:
        The largest of ``max|a - b| / max|a|`` over all output tensors.

    Raises:
        FoldingError: It is not below ``tolerance``; names the first module that differs.
    """
    difference = relative_difference(
        _double_outputs(model, args, kwargs), _double_outputs(folded, args, kwargs))
    if not difference < tolerance:  # catches NaN too
        raise FoldingError(
            f'folded and unfolded outputs differ by {difference:.2e} (relative), tolerance '
            f'{tolerance:.0e}; {_first_difference(model, folded, args, kwargs, tolerance)}')
    return difference


def verify_on_batch(model: nn.Module,
                    folded: nn.Module,
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


def _double_outputs(model: nn.Module,
                    args: tuple,
                    kwargs: dict,
                    prepare: Callable[[nn.Module], None] = lambda model: None) -> Any:
    """The outputs of a float64 copy of ``model`` in eval mode; ``prepare`` may hook the copy."""
    double = copy.deepcopy(model).double().eval()
    prepare(double)
    args, kwargs = apply_to((args, kwargs), _is_float_tensor, Tensor.double)
    device_type = next(model.parameters()).device.type
    with torch.no_grad(), torch.autocast(device_type, enabled=False):
        return double(*args, **kwargs)


def _first_difference(model: nn.Module, folded: nn.Module, args: tuple, kwargs: dict,
                      tolerance: float) -> str:
    names = [name for name in _foldable_names(model) if name in dict(folded.named_modules())]
    expected, actual = (_record(side, names, args, kwargs) for side in (model, folded))
    for name, output in expected.items():
        difference = relative_difference(output, actual[name])
        if not difference < tolerance:
            return f'the first module that differs is {name} ({difference:.2e})'
    return f'none of the {len(names)} folded modules differs by itself'


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


def _record(model: nn.Module, names: List[str], args: tuple, kwargs: dict) -> Dict[str, Any]:
    """The first output of each named module, in the order they ran."""
    outputs: Dict[str, Any] = {}

    def keep(name: str, output: Any) -> None:
        # A clone: what follows may work in place.
        outputs.setdefault(name, apply_to(output, _is_float_tensor, Tensor.clone))

    def add_hooks(copied: nn.Module) -> None:
        modules = dict(copied.named_modules())
        for name in names:
            modules[name].register_forward_hook(
                lambda module, inputs, output, name=name: keep(name, output))

    _double_outputs(model, args, kwargs, add_hooks)
    return outputs


def _is_float_tensor(item: Any) -> bool:
    return isinstance(item, Tensor) and item.is_floating_point()


def _tensors(structure: Any) -> Iterator[Tensor]:
    if isinstance(structure, Tensor):
        yield structure
    elif isinstance(structure, (list, tuple, dict)):
        for item in structure.values() if isinstance(structure, dict) else structure:
            yield from _tensors(item)
