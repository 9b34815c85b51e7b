"""The MobileOne backbone (arXiv 2206.04040) for mmdet, mmsegmentation and mmpretrain."""

import warnings
from contextlib import contextmanager, nullcontext
from functools import partial
from numbers import Integral
from typing import (
    Any,
    ContextManager,
    Dict,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
    Union,
    cast,
)

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from .archs import NUM_STAGES, MobileOneArch, resolve_arch
from .block import MobileOneBlock
from .checkpoint_names import check_form
from .pretrained import load_pretrained

# output_stride -> (stride, dilation of all blocks but the first) of the four stages.
STAGE_STRIDES: Dict[int, Tuple[Tuple[int, int], ...]] = {
    32: ((2, 1), (2, 1), (2, 1), (2, 1)),
    16: ((2, 1), (2, 1), (2, 1), (1, 2)),
    8: ((2, 1), (2, 1), (1, 2), (1, 4)),
}


@MODELS.register_module()
class MobileOne(BaseModule):
    """MobileOne: over-parameterized in training, a plain stack of convolutions once folded.

    Follows the released weights if they differ from the paper's Table 7 (see
    :mod:`mobileone_mm.backbones.archs`). Parameters have Apple's names.

    Args:
        arch: ``'s0'`` ... ``'s4'`` or a dict of
            :class:`~mobileone_mm.backbones.archs.MobileOneArch` fields.
        in_channels: Channels of the image. Defaults to 3.
        out_indices: Which stages to return, in this order: 0 to 3 are strides 4, 8, 16 and 32;
            negative ones count from the end. Defaults to (3, ).
        output_stride: 32, or 16 or 8 to keep the resolution by dilation instead of stride.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages.
        norm_eval: Keep the batch norms in eval mode during training. Defaults to False.
        norm_cfg: Defaults to ``dict(type='BN')``, with the eps 1e-5 of the released weights.
        act_cfg: Defaults to ``dict(type='ReLU')``.
        use_se: Overrides squeeze-and-excitation; the paper's segmentation S4 has none (Table 11b).
        num_conv_branches: Overrides k of all stages (Table 6).
        use_scale_branch: The 1x1 branch of the depthwise blocks (Table 5). Defaults to True.
        use_skip_branch: The batch norm branch (Table 5). Defaults to True.
        with_cp: Checkpoint activations: saves memory, costs a forward pass. Defaults to False.
        deploy: Build the folded form. Defaults to False.
        branch_engine: How the branches are computed; the results are the same. ``'textbook'``
            runs them one by one, ``'analytic'`` folds or fuses them, which takes less time and
            memory, and ``'auto'``, the default, picks the faster for each block and call. On CUDA
            ``'analytic'`` uses Triton kernels if Triton is installed, and ``'auto'`` means
            ``'textbook'``. On other devices, and in ``torch.compile`` on a CPU, all three mean
            ``'textbook'``.
        pretrained: OpenMMLab's older name for ``init_cfg=dict(type='Pretrained', checkpoint=...)``.
        init_cfg: Initialization config. ``dict(type='Pretrained', checkpoint=path_or_url)`` reads
            files of Apple, mmpretrain, timm and cvnets; see
            :func:`mobileone_mm.backbones.pretrained.load_pretrained` for its options.

    Attributes:
        out_channels (tuple[int]): Channels of each returned map.
        out_strides (tuple[int]): Stride of each returned map.

    Raises:
        ValueError: An argument is out of range; the message names it.

    Examples:
        >>> import torch
        >>> from mobileone_mm import MobileOne
        >>> backbone = MobileOne(arch='s0', out_indices=(1, 2, 3)).eval()
        >>> [tuple(x.shape) for x in backbone(torch.randn(1, 3, 64, 64))]
        [(1, 128, 8, 8), (1, 256, 4, 4), (1, 1024, 2, 2)]
        >>> backbone.switch_to_deploy()
        >>> [tuple(x.shape) for x in backbone(torch.randn(1, 3, 64, 64))]
        [(1, 128, 8, 8), (1, 256, 4, 4), (1, 1024, 2, 2)]
    """

    def __init__(self,
                 arch: Union[str, dict, MobileOneArch],
                 in_channels: int = 3,
                 *,
                 out_indices: Sequence[int] = (3, ),
                 output_stride: int = 32,
                 frozen_stages: int = -1,
                 norm_eval: bool = False,
                 norm_cfg: Optional[dict] = None,
                 act_cfg: Optional[dict] = dict(type='ReLU'),
                 use_se: Optional[bool] = None,
                 num_conv_branches: Optional[int] = None,
                 use_scale_branch: bool = True,
                 use_skip_branch: bool = True,
                 with_cp: bool = False,
                 deploy: bool = False,
                 branch_engine: str = 'auto',
                 pretrained: Optional[str] = None,
                 init_cfg: Union[dict, List[dict], None] = None) -> None:
        if pretrained is not None:
            if init_cfg is not None:
                raise ValueError('give either pretrained or init_cfg, not both')
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm'])
            ]
        super().__init__(init_cfg)
        self.arch = resolve_arch(arch).override(use_se, num_conv_branches)
        self.out_indices = _check_out_indices(out_indices)
        if output_stride not in STAGE_STRIDES:
            raise ValueError(f'output_stride must be one of {list(STAGE_STRIDES)}, '
                             f'got {output_stride!r}')
        if not _is_integer(frozen_stages) or frozen_stages not in range(-1, NUM_STAGES + 1):
            raise ValueError('frozen_stages must be an integer, -1 (none), 0 (the stem) or up to '
                             f'{NUM_STAGES} (everything), got {frozen_stages!r}')
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self._block_cfg: Dict[str, Any] = dict(
            norm_cfg=norm_cfg, act_cfg=act_cfg, use_scale_branch=use_scale_branch, deploy=deploy,
            branch_engine=branch_engine)
        self._use_skip_branch = use_skip_branch

        # The stem has one conv branch in every variant, as in the released weights.
        self.stage0 = MobileOneBlock(
            in_channels, self.arch.stem_channels, 3, stride=2, use_skip_branch=False,
            **self._block_cfg)
        channels, dilation, stride = self.arch.stem_channels, 1, 2
        strides = []
        for i in range(NUM_STAGES):
            stage_stride, stage_dilation = STAGE_STRIDES[output_stride][i]
            self.add_module(f'stage{i + 1}', self._make_stage(
                i, channels, stage_stride, dilation, stage_dilation))
            channels, dilation = self.arch.stage_channels[i], stage_dilation
            stride *= stage_stride
            strides.append(stride)
        self.out_channels = tuple(self.arch.stage_channels[i] for i in self.out_indices)
        self.out_strides = tuple(strides[i] for i in self.out_indices)
        self._freeze_stages()

    def _make_stage(self, index: int, channels: int, stride: int, first_dilation: int,
                    dilation: int) -> nn.Sequential:
        """Depthwise and pointwise blocks in turn; pair i of the released names is 2i, 2i + 1.

        Dilation may replace the stride of the first block, which keeps the dilation of the stage
        before: its kernel samples the same grid as the strided one. It never has a skip branch,
        since the strided block of the pretrained weights has none.
        """
        arch, blocks = self.arch, []
        out_channels = arch.stage_channels[index]
        for i in range(arch.num_blocks[index]):
            first = i == 0
            cfg: Dict[str, Any] = dict(
                self._block_cfg,
                num_conv_branches=arch.num_conv_branches[index],
                use_se=i >= arch.num_blocks[index] - arch.num_se_blocks[index])
            blocks.append(MobileOneBlock(
                channels, channels, 3,
                stride=stride if first else 1,
                dilation=first_dilation if first else dilation,
                groups=channels,
                use_skip_branch=self._use_skip_branch and not first,
                **cfg))
            blocks.append(MobileOneBlock(
                channels, out_channels, 1,
                use_skip_branch=self._use_skip_branch and channels == out_channels,
                **cfg))
            channels = out_channels
        return nn.Sequential(*blocks)

    @property
    def stages(self) -> List[nn.Module]:
        """The stem and the four stages."""
        return [getattr(self, f'stage{i}') for i in range(NUM_STAGES + 1)]

    @property
    def deploy(self) -> bool:
        """Whether the whole backbone is folded."""
        return all(m.deploy for m in self.modules() if isinstance(m, MobileOneBlock))

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Compute the feature maps.

        Args:
            x: Images, (B, in_channels, H, W).

        Returns:
            One map per ``out_indices``, (B, C, ceil(H / stride), ceil(W / stride)) each.
        """
        features = []
        for stage in self.stages:
            for block in stage if isinstance(stage, nn.Sequential) else [stage]:
                if self.with_cp and self.training and x.requires_grad:
                    x = checkpoint(
                        block, x, use_reentrant=False,
                        context_fn=partial(_recomputing, block))
                else:
                    x = block(x)
            features.append(x)
        return tuple(features[i + 1] for i in self.out_indices)

    def switch_to_deploy(self) -> None:
        """Fold every block in place; does nothing if the backbone is already folded.

        The folded network computes what the unfolded one computes in eval mode.

        Raises:
            ValueError: The model is in half precision; fold in float32, then cast.
        """
        if self.training and not self.deploy:
            warnings.warn('folding a MobileOne in train mode: the result equals its outputs '
                          'in eval(), not in train(); call eval() first to silence this',
                          stacklevel=2)
        for module in self.modules():
            if isinstance(module, MobileOneBlock):
                module.switch_to_deploy()

    def init_weights(self) -> None:
        """Initialize by ``init_cfg``; for type Pretrained, read checkpoints of other code bases."""
        cfgs = self.init_cfg if isinstance(self.init_cfg, (list, tuple)) else [self.init_cfg]
        pretrained = [cfg for cfg in cfgs if cfg and cfg['type'] == 'Pretrained']
        if not pretrained:
            super().init_weights()
            return
        if not pretrained[-1].get('checkpoint'):
            raise ValueError("init_cfg=dict(type='Pretrained') needs checkpoint=, a path or URL, "
                             f'got {dict(pretrained[-1])}')
        if not self.is_init:
            load_pretrained(self, **{k: v for k, v in pretrained[-1].items() if k != 'type'})
            self._is_init = True

    def train(self, mode: bool = True) -> 'MobileOne':
        """Set the mode; frozen stages, and all norms with ``norm_eval``, stay in eval mode."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze_stages(self) -> None:
        for stage in self.stages[:self.frozen_stages + 1]:
            stage.eval()
            stage.requires_grad_(False)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # mmengine loads with strict=False: a folded file would leave an unfolded backbone at its
        # random weights, with only a warning.
        check_form(state_dict, prefix, deploy=self.deploy)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _recomputing(block: nn.Module) -> Tuple[ContextManager, ContextManager]:
    """Contexts for the first and the second forward pass of a checkpointed block."""
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Keep running statistics: the second of two forward passes must not count."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    counts = [cast(Tensor, norm.num_batches_tracked) for norm in norms]
    before = [(norm.momentum, count.clone()) for norm, count in zip(norms, counts)]
    for norm in norms:
        norm.momentum = 0.
    try:
        yield
    finally:
        for norm, count, (momentum, count_before) in zip(norms, counts, before):
            norm.momentum = momentum
            count.copy_(count_before)


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _check_out_indices(out_indices: Union[int, Sequence[int]]) -> Tuple[int, ...]:
    """Map negative indices to 0 ... 3, in the given order."""
    given: Tuple[Any, ...] = (tuple(out_indices) if isinstance(out_indices, (list, tuple, range))
                              else (out_indices, ))
    indices: List[int] = []
    for index in given:
        if not _is_integer(index) or not -NUM_STAGES <= int(index) < NUM_STAGES:
            raise ValueError('out_indices must be integers within '
                             f'{-NUM_STAGES} ... {NUM_STAGES - 1} (strides 4, 8, 16 and 32), '
                             f'got {given}')
        indices.append(int(index) % NUM_STAGES)
    if not indices or len(set(indices)) < len(indices):
        raise ValueError('out_indices must name at least one stage, each once, '
                         f'got {given}')
    return tuple(indices)
