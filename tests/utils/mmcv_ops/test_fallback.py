"""install_ops_fallback, each case in a fresh interpreter."""

import subprocess
import sys

import pytest

from mobileone_mm.utils.mmcv_ops import install_ops_fallback

LITE = install_ops_fallback()


def run_python(code):
    """The last line printed by Python code run in a fresh interpreter."""
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True,
                            text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1]


@pytest.mark.skipif(not LITE, reason='mmcv has compiled ops here')
class TestLite:

    def test_installed_once_also_when_mmcv_is_imported_already(self):
        assert run_python(
            'import mmcv, sys\n'
            'from mobileone_mm.utils.mmcv_ops import install_ops_fallback as install\n'
            'outcomes = [install()]; ext = sys.modules["mmcv._ext"]\n'
            'import mmcv.ops\n'
            'outcomes.append(install())\n'
            'print(*outcomes, ext is sys.modules["mmcv._ext"])') == 'True True True'

    def test_missing_op_is_named_with_the_remedy(self):
        import torch
        from mmcv.ops import roi_pool
        with pytest.raises(NotImplementedError, match=r"'roi_pool_forward'.*make test-compiled"):
            roi_pool(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5), 2)

    def test_module_answers_introspection(self):
        import inspect
        import pickle
        ext = sys.modules['mmcv._ext']
        assert inspect.getmodule(ext) is ext
        assert ext.__spec__.name == 'mmcv._ext'
        assert not hasattr(ext, '__wrapped__') and not hasattr(ext, '_private')
        assert pickle.loads(pickle.dumps(ext.nms)) is ext.nms
        with pytest.raises(NotImplementedError, match='deform_conv_forward'):
            pickle.loads(pickle.dumps(ext.deform_conv_forward))()

    def test_mmengine_knows_that_this_is_not_a_full_mmcv(self):
        from mmengine.utils.dl_utils import mmcv_full_available
        assert not mmcv_full_available()

    def test_environment_report_of_mmcv_runs(self):
        from mmcv.utils import collect_env
        assert collect_env()['MMCV Compiler'] == 'n/a'


@pytest.mark.skipif(LITE, reason='mmcv has no compiled ops here: make test-compiled')
def test_compiled_ops_are_left_alone():
    assert run_python(
        'import mobileone_mm, mmcv.ops, sys\n'
        'from mobileone_mm.utils.mmcv_ops import install_ops_fallback\n'
        'print(install_ops_fallback(), sys.modules["mmcv._ext"].__file__)').startswith('False /')


def test_nothing_happens_without_mmcv():
    assert run_python(
        'import sys\n'
        'from mobileone_mm.utils.mmcv_ops import fallback\n'
        'fallback.find_spec = lambda name: None\n'
        'for name in [n for n in sys.modules if n.startswith("mmcv")]: del sys.modules[name]\n'
        'print(fallback.install_ops_fallback(), "mmcv._ext" in sys.modules)') == 'False False'
