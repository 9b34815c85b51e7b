"""Keep old import paths working for one release, with a warning."""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Dict, Optional, Sequence, Tuple

__all__ = ['OLD_PATHS', 'keep_old_paths']

# If a module was split, its names come from several.
OLD_PATHS: Dict[str, Tuple[str, ...]] = {
    'mobileone_mm.archs': ('mobileone_mm.backbones.archs', ),
    'mobileone_mm.checkpoints': ('mobileone_mm.utils.checkpoint_files',
                                 'mobileone_mm.backbones.checkpoint_names',
                                 'mobileone_mm.backbones.pretrained'),
    'mobileone_mm.cli': ('mobileone_mm.commands.train_test', ),
    'mobileone_mm.deploy': ('mobileone_mm.folding.reparameterize', ),
    'mobileone_mm.deploy_files': ('mobileone_mm.folding.deployed_files',
                                  'mobileone_mm.folding.models'),
    'mobileone_mm.hooks': ('mobileone_mm.engine.hooks', ),
    'mobileone_mm.initializers': ('mobileone_mm.backbones.initializers', ),
    'mobileone_mm.ops': ('mobileone_mm.utils.mmcv_ops', ),
    'mobileone_mm.preflight': ('mobileone_mm.datasets.preflight', 'mobileone_mm.utils.libraries'),
    'mobileone_mm.reparam': ('mobileone_mm.folding', ),
    'mobileone_mm.verify': ('mobileone_mm.folding.verify', ),
}


class _OldPathFinder(MetaPathFinder, Loader):
    """Makes a module for each old path that forwards the names of the new one."""

    def find_spec(self, name: str, path: Optional[Sequence[str]] = None,
                  target: Optional[ModuleType] = None) -> Optional[ModuleSpec]:
        return ModuleSpec(name, self) if name in OLD_PATHS else None

    def exec_module(self, module: ModuleType) -> None:
        new = OLD_PATHS[module.__name__]
        warnings.warn(f'{module.__name__} has moved to {", ".join(new)}; the next release drops '
                      'the old path', FutureWarning, stacklevel=2)
        sources = [import_module(name) for name in new]

        def find(name: str) -> Any:
            for source in sources:
                if hasattr(source, name):
                    return getattr(source, name)
            raise AttributeError(f'module {module.__name__!r} has no attribute {name!r}')

        module.__getattr__ = find  # type: ignore[method-assign]


def keep_old_paths() -> None:
    """Make the import paths in :data:`OLD_PATHS` work. Repeated calls are fine."""
    if not any(isinstance(finder, _OldPathFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OldPathFinder())  # before any stale folder with that name
