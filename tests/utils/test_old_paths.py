"""Import paths of the last release lead to the new modules, with a warning."""

import importlib
import sys

import pytest

from mobileone_mm.utils.old_paths import OLD_PATHS

NO_SUCH_NAME = 'no_such_name'
NAMES = {
    'mobileone_mm.archs': 'MobileOneArch',
    'mobileone_mm.backbones.unfold': 'unfold',
    'mobileone_mm.checkpoints': 'to_apple_names',
    'mobileone_mm.cli': 'read_config',
    'mobileone_mm.deploy': 'reparameterize',
    'mobileone_mm.deploy_files': 'build_model',
    'mobileone_mm.hooks': 'ReparameterizeHook',
    'mobileone_mm.initializers': 'SkipInit',
    'mobileone_mm.ops': 'install_ops_fallback',
    'mobileone_mm.preflight': 'check_data',
    'mobileone_mm.reparam': 'fold_conv_bn',
    'mobileone_mm.verify': 'verify_folding',
}


@pytest.mark.parametrize('path', NAMES)
def test_an_old_path_works(path):
    sys.modules.pop(path, None)
    if path in OLD_PATHS:
        with pytest.warns(FutureWarning, match='has moved to mobileone_mm'):
            module = importlib.import_module(path)
    else:
        module = importlib.import_module(path)
    assert callable(getattr(module, NAMES[path]))
    with pytest.raises(AttributeError, match='_no_such_name'):
        getattr(module, NAMES[path] + '_no_such_name')
