"""The MobileOne variants as data (paper, Table 7, as built by the released code).

If the paper and the released weights differ, the weights win: the stem has ``min(64, 64 a)``
channels and one conv branch in every variant (Table 7: ``64 a`` and ``k``), and the paper's stages
4 and 5 are one stage of ten blocks.
"""

from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Any, Dict, Optional, Tuple, Union

__all__ = ['ARCHS', 'MobileOneArch', 'resolve_arch']

NUM_STAGES = 4
BASE_CHANNELS = (64, 128, 256, 512)


@dataclass(frozen=True)
class MobileOneArch:
    """One variant. Every field has one value per stage, at strides 4, 8, 16 and 32.

    Attributes:
        width_factor: The paper's alpha.
        num_conv_branches: The paper's k, the over-parameterization factor.
        num_blocks: Depthwise + pointwise pairs.
        num_se_blocks: How many of the stage's last pairs have squeeze-and-excitation.
    """

    width_factor: Tuple[float, ...]
    num_conv_branches: Tuple[int, ...] = (1, 1, 1, 1)
    num_blocks: Tuple[int, ...] = (2, 8, 10, 1)
    num_se_blocks: Tuple[int, ...] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        for field in fields(self):
            self._check(field.name)
            object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
        for stage, (se, blocks) in enumerate(zip(self.num_se_blocks, self.num_blocks)):
            if se > blocks:
                raise ValueError(f'num_se_blocks[{stage}]={se} is more than the '
                                 f'num_blocks[{stage}]={blocks} of that stage')

    def _check(self, name: str) -> None:
        values = getattr(self, name)
        if not isinstance(values, (list, tuple)) or len(values) != NUM_STAGES:
            raise ValueError(f'{name} needs {NUM_STAGES} values, one per stage, got {values}')
        if name == 'width_factor':
            expected, good = 'positive numbers', all(v > 0 for v in values)
        else:
            least = 0 if name == 'num_se_blocks' else 1
            expected = f'integers >= {least}'
            good = all(isinstance(v, Integral) and int(v) >= least for v in values)
        if not good:
            raise ValueError(f'{name} must hold {expected}, got {values}')

    @property
    def stem_channels(self) -> int:
        """Channels after the stem, at stride 2."""
        return min(BASE_CHANNELS[0], self.stage_channels[0])

    @property
    def stage_channels(self) -> Tuple[int, ...]:
        """Channels after each stage."""
        return tuple(int(c * w) for c, w in zip(BASE_CHANNELS, self.width_factor))

    def override(self,
                 use_se: Optional[bool] = None,
                 num_conv_branches: Optional[int] = None) -> 'MobileOneArch':
        """A copy with another squeeze-and-excitation or k in every stage.

        Args:
            use_se: ``False`` removes squeeze-and-excitation (the paper's segmentation S4, Table
                11b), ``True`` adds it where S4 has it, and ``None`` keeps the variant's.
            num_conv_branches: k for all stages; ``None`` keeps the variant's.
        """
        arch = self
        if use_se is not None:
            half = self.num_blocks[2] // 2
            num_se = (0, 0, half, self.num_blocks[3]) if use_se else (0, 0, 0, 0)
            if not use_se or not any(self.num_se_blocks):
                arch = replace(arch, num_se_blocks=num_se)
        if num_conv_branches is not None:
            arch = replace(arch, num_conv_branches=(num_conv_branches, ) * NUM_STAGES)
        return arch


ARCHS: Dict[str, MobileOneArch] = {
    's0': MobileOneArch((0.75, 1.0, 1.0, 2.0), num_conv_branches=(4, 4, 4, 4)),
    's1': MobileOneArch((1.5, 1.5, 2.0, 2.5)),
    's2': MobileOneArch((1.5, 2.0, 2.5, 4.0)),
    's3': MobileOneArch((2.0, 2.5, 3.0, 4.0)),
    's4': MobileOneArch((3.0, 3.5, 3.5, 4.0), num_se_blocks=(0, 0, 5, 1)),
}


def resolve_arch(arch: Union[str, Dict[str, Any], MobileOneArch]) -> MobileOneArch:
    """Look up a variant by name, or build one from a dict of :class:`MobileOneArch` fields.

    Raises:
        ValueError: The name is unknown, or the dict has an unknown, missing or invalid field.
    """
    if isinstance(arch, MobileOneArch):
        return arch
    if not isinstance(arch, dict):
        if str(arch).lower() not in ARCHS:
            raise ValueError(f'unknown MobileOne arch {arch!r}: expected one of {list(ARCHS)}, '
                             'or a dict')
        return ARCHS[arch.lower()]
    names = [field.name for field in fields(MobileOneArch)]
    unknown = sorted(set(arch) - set(names))
    if unknown or 'width_factor' not in arch:
        raise ValueError(f'a MobileOne arch dict needs width_factor and may have {names[1:]}, '
                         f'got {sorted(arch)}')
    return MobileOneArch(**arch)
