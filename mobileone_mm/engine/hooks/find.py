"""Find hooks in a config."""

from typing import Any, Iterator

from mmengine.config import Config
from mmengine.registry import HOOKS


def hooks_of(cfg: Config, kind: type) -> Iterator[Any]:
    """Build only the hooks of one class that a config registers."""
    for config in [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]:
        if config and str(config.get('type')).rsplit('.', 1)[-1] == kind.__name__:
            yield HOOKS.build({k: v for k, v in config.items() if k != 'priority'})
