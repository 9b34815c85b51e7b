"""Importing the package imports no library of a task or an exporter that it does not need."""

import subprocess
import sys

import pytest


def import_with_blocked(package, blocked):
    """Import a package in a fresh interpreter that lacks some others."""
    code = f'import sys; sys.modules.update(dict.fromkeys({blocked!r})); import {package}'
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize('package, blocked', [
    ('mobileone_mm, mobileone_mm.export.pipeline', [
        'mmdet', 'mmseg', 'mmpretrain', 'torchvision', 'timm', 'numba', 'onnx', 'onnxruntime',
        'openvino', 'nncf', 'ncnn', 'coremltools', 'mmdeploy', 'executorch', 'torchao',
        'litert_torch', 'ai_edge_litert', 'tensorboard']),
    ('mobileone_mm.detection', ['mmseg', 'onnx', 'torchvision', 'numba']),
])
def test_import_with_other_libraries_blocked(package, blocked):
    result = import_with_blocked(package, blocked)
    assert result.returncode == 0, result.stderr


def test_segmentation_needs_no_mmdet_and_blocking_works():
    result = import_with_blocked(
        'mobileone_mm.segmentation; print("done"); import mobileone_mm.detection',
        ['mmdet', 'onnx', 'torchvision', 'numba'])
    assert 'done' in result.stdout, result.stderr
    assert result.returncode != 0 and "'mmdet' is not a package" in result.stderr


def test_users_do_not_import_the_laboratory():
    code = ('import sys, mobileone_mm, mobileone_mm.export.pipeline; '
            'print([m for m in ("mobileone_mm.benchmark", "matplotlib") if m in sys.modules])')
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                            timeout=300)
    assert result.stdout.splitlines()[-1:] == ['[]'], result.stdout + result.stderr
