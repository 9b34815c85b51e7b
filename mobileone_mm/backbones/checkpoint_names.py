"""Rename MobileOne's weights from other code bases to Apple's names."""

import re
from typing import Callable, Optional, Tuple, Union

from ..utils.checkpoint_files import CheckpointError, StateDict, is_folded
from ..utils.messages import shorten

# Regular expressions, applied in order, that turn the names of all code bases into Apple's. Their
# names do not overlap, so one list is enough. cvnets' squeeze-and-excitation comes before its
# general '.block.' rules.
RENAMES: Tuple[Tuple[str, Union[str, Callable]], ...] = (
    # timm
    (r'^stem\.', 'stage0.'),
    (r'^stages[._](\d)\.', lambda m: f'stage{int(m[1]) + 1}.'),  # features_only: with '_'
    (r'\.conv_kxk\.', '.rbr_conv.'),
    (r'\.conv_scale\.', '.rbr_scale.'),
    (r'\.identity\.', '.rbr_skip.'),
    (r'\.attn\.fc1\.', '.se.reduce.'),
    (r'\.attn\.fc2\.', '.se.expand.'),
    # cvnets
    (r'^conv_1\.', 'stage0.'),
    (r'^layer_(\d)\.', lambda m: f'stage{int(m[1]) - 1}.'),
    (r'\.se\.se_layer\.fc1\.block\.conv\.', '.se.reduce.'),
    (r'\.se\.se_layer\.fc2\.block\.conv\.', '.se.expand.'),
    (r'\.block\.conv\.', '.conv.'),
    (r'\.block\.norm\.', '.bn.'),
    # mmpretrain
    (r'\.branch_conv_list\.', '.rbr_conv.'),
    (r'\.branch_scale\.', '.rbr_scale.'),
    (r'\.branch_norm\.', '.rbr_skip.'),
    (r'\.branch_reparam\.', '.reparam_conv.'),
    (r'(\.rbr_conv\.\d+|\.rbr_scale)\.norm\.', r'\1.bn.'),
    (r'\.se\.conv1\.conv\.', '.se.reduce.'),
    (r'\.se\.conv2\.conv\.', '.se.expand.'),
)
CLASSIFIER = re.compile(r'^(linear|head|fc|classifier)\.')


def to_apple_names(state_dict: StateDict, prefix: Optional[str] = None) -> StateDict:
    """Rename the keys of a state dict of Apple, mmpretrain, timm or cvnets to Apple's names.

    Args:
        state_dict: State dict of a classifier, a backbone, a detector or a segmentor, from
            :func:`~mobileone_mm.utils.checkpoint_files.unwrap`.
        prefix: Only take keys with this prefix, for example ``backbone`` or ``backbone.``; by
            default ``backbone.`` if any key has it.

    Returns:
        The backbone's entries, without the classifier.

    Raises:
        CheckpointError: No key has the prefix.
    """
    if prefix is None and any(key.startswith('backbone.') for key in state_dict):
        prefix = 'backbone.'
    if prefix:
        prefix = f'{prefix.rstrip(".")}.'
        inside = {k[len(prefix):]: v for k, v in state_dict.items() if k.startswith(prefix)}
        if not inside:
            raise CheckpointError(
                f'no key of the checkpoint starts with prefix={prefix!r}'
                f'{prefix_advice(state_dict)}; its keys: {shorten(state_dict, 3)}')
        state_dict = inside
    return {_rename(k): v for k, v in state_dict.items() if not CLASSIFIER.match(k)}


def prefix_advice(state_dict: StateDict) -> str:
    """The prefix of a MobileOne in the file, as the end of a message; empty if there is none."""
    found = re.findall(r'^(\S+\.)(?:stage0|stem|conv_1)\.\S+$', '\n'.join(state_dict), re.MULTILINE)
    return f'; try init_cfg with prefix={found[0]!r}' if found else ''


def _rename(key: str) -> str:
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def check_form(state_dict: StateDict, prefix: str, deploy: bool,
               name: str = 'the checkpoint') -> None:
    """Refuse folded weights for an unfolded backbone, and vice versa.

    Raises:
        CheckpointError: The forms differ; the message says what to do.
    """
    if is_folded(state_dict, prefix) and not deploy:
        raise CheckpointError(
            f'{name} is folded but the backbone is not: set deploy=True in the backbone to use it '
            'as it is. To fine-tune from a folded file, give it as init_cfg=dict('
            "type='Pretrained', checkpoint=..., unfold=True)")
    if deploy and f'{prefix}stage0.rbr_conv.0.conv.weight' in state_dict:
        raise CheckpointError(
            f'the backbone has deploy=True but {name} is not folded: fold it with '
            'tools/reparameterize.py, or set deploy=False')
