"""The checkpoint hook notices a mistyped option before training, not when it saves."""

import pytest
from mmengine.registry import HOOKS

from mobileone_mm.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook


def test_unknown_options_are_refused_at_once():
    with pytest.raises(ValueError, match='no option intervall: expected interval, by_epoch'):
        HOOKS.build(dict(type='AtomicCheckpointHook', intervall=2))


def test_all_options_of_mmengine_are_known():
    hook = AtomicCheckpointHook(interval=2, by_epoch=True, max_keep_ckpts=3, save_best='auto',
                                save_optimizer=False, published_keys=['state_dict'])
    assert (hook.interval, hook.save_optimizer, hook.args) == (2, False, {})
