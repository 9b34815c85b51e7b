"""Fold the MobileOne in any model."""

import copy
import logging
from collections import Counter
from typing import Iterator, List, Tuple

import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.bricks.wrappers import Conv2d as MMCVConv2d
from mmengine.logging import print_log
from mmengine.model import BaseAveragedModel, is_model_wrapper
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from . import check_precision, fold_conv_bn


def reparameterize(model: nn.Module,
                   inplace: bool = False,
                   fuse_conv_bn: bool = False) -> nn.Module:
    """Fold every MobileOne in a model into its deploy form (paper, section 3.2).

    Folds every module that has a ``switch_to_deploy`` method. Keeps train or eval mode, device,
    dtype and ``requires_grad``. Modules that are already folded stay as they are.

    Batch norms are folded with their running statistics, so the result equals ``model`` in eval
    mode. The backbone warns if it is in train mode.

    Args:
        model: Any model that holds a MobileOne: the backbone, a detector, a segmentor, or one of
            these in DistributedDataParallel, an averaged model (EMA) or ``torch.compile``.
        inplace: Fold ``model`` itself and return it with its wrappers. By default ``model`` is not
            changed, and the result is a folded copy without wrappers.
        fuse_conv_bn: Also fold pairs of convolution and batch norm in neck and head
            (``mmcv.cnn.ConvModule`` and ``nn.Sequential``). Batch norms that do not directly
            follow their own plain convolution remain, with a warning.

    Returns:
        The folded model.

    Raises:
        ValueError: ``model`` holds nothing to fold, or is in half precision: fold in float32 first,
            cast afterwards.

    Examples:
        >>> import torch
        >>> from mobileone_mm import MobileOne
        >>> from mobileone_mm.folding.reparameterize import reparameterize
        >>> backbone = MobileOne(arch='s1').eval()
        >>> folded = reparameterize(backbone)
        >>> image = torch.randn(1, 3, 64, 64)
        >>> torch.allclose(backbone(image)[0], folded(image)[0], rtol=1e-3, atol=1e-4)
        True
        >>> [sum(p.numel() for p in model.parameters()) for model in (backbone, folded)]
        [3544192, 3483840]
    """
    if not any(hasattr(module, 'switch_to_deploy') for module in model.modules()):
        raise ValueError(f'{type(model).__name__} holds no MobileOne (no module with a '
                         'switch_to_deploy method), so there is nothing to fold')
    if not inplace:
        model = copy.deepcopy(unwrap_model(model))
    for owner in _unfolded(model, fuse_conv_bn):
        check_precision(owner)
    for module in list(model.modules()):  # a list, since folding changes the modules
        fold = getattr(module, 'switch_to_deploy', None)
        if fold is not None:
            fold()
    if fuse_conv_bn:
        _fuse_conv_bn_pairs(model)
    return model


def unwrap_model(model: nn.Module) -> nn.Module:
    """The model inside ``torch.compile``, distributed wrappers and averaged models."""
    while True:
        if '_orig_mod' in model._modules:
            model = model.get_submodule('_orig_mod')
        elif is_model_wrapper(model) or isinstance(model, (BaseAveragedModel, AveragedModel)):
            model = model.get_submodule('module')
        else:
            return model


def holds_unfolded(model: nn.Module) -> bool:
    """Whether any module of ``model`` can be folded and is not."""
    return bool(_unfolded(model, fuse_conv_bn=False))


def _unfolded(model: nn.Module, fuse_conv_bn: bool) -> List[nn.Module]:
    """The modules to fold that still hold a batch norm."""
    owners = [model] if fuse_conv_bn else [
        module for module in model.modules() if hasattr(module, 'switch_to_deploy')]
    return [owner for owner in owners if any(isinstance(m, _BatchNorm) for m in owner.modules())]


def _fuse_conv_bn_pairs(model: nn.Module) -> None:
    parents = Counter(id(child) for module in model.modules() for child in module.children())
    for parent in list(model.modules()):
        for conv_name, bn_name in _conv_bn_names(parent):
            conv, bn = parent._modules[conv_name], parent._modules[bn_name]
            # Exact types: subclasses such as mmcv's ConvWS2d compute their kernel on the fly.
            if (isinstance(conv, nn.Conv2d) and type(conv) in (nn.Conv2d, MMCVConv2d)
                    and 'weight' in conv._parameters  # no spectral norm
                    and isinstance(bn, _BatchNorm) and bn.running_mean is not None
                    and parents[id(conv)] == 1):
                _fuse_into_conv(conv, bn)
                # Identity, as in mmcv's own fuse_conv_bn: ConvModule keeps calling it.
                parent._modules[bn_name] = nn.Identity()
                vars(parent)['efficient_conv_bn_eval_forward'] = None
    remaining = [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    if remaining:
        print_log(f'{len(remaining)} batch norms do not directly follow a plain convolution of '
                  f'their own and remain: {", ".join(remaining)}', 'current', logging.WARNING)


def _conv_bn_names(parent: nn.Module) -> Iterator[Tuple[str, str]]:
    """Names of successive layers, if the order in which they run is known."""
    if isinstance(parent, ConvModule):
        names = dict(conv='conv', norm=parent.norm_name, act='activate')
        order = [names[layer] for layer in parent.order if names[layer] in parent._modules]
    elif isinstance(parent, nn.Sequential):
        order = list(parent._modules)
    else:
        order = []
    yield from zip(order, order[1:])


def _fuse_into_conv(conv: nn.Conv2d, bn: _BatchNorm) -> None:
    trainable = any(p.requires_grad for m in (conv, bn) for p in m.parameters())
    with torch.no_grad():
        kernel, bias = fold_conv_bn(conv, bn)
        conv.weight = nn.Parameter(kernel.to(conv.weight), requires_grad=trainable)
        conv.bias = nn.Parameter(bias.to(conv.weight), requires_grad=trainable)
