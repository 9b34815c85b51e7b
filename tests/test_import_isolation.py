"""Importing the package never imports a task's library it does not need, nor an exporter's."""

import subprocess
import sys

import pytest


def import_with_blocked(package, blocked):
    """Import a package in a fresh interpreter that has not got some others."""
    code = f'import sys; sys.modules.update(dict.fromkeys({blocked!r})); import {package}'
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize('package, blocked', [
    ('mobileone_mm', ['mmdet', 'mmseg', 'mmpretrain', 'onnx', 'torchvision', 'timm']),
    ('mobileone_mm.export.pipeline', ['mmdet', 'mmseg', 'onnx', 'onnxruntime', 'openvino', 'ncnn',
                                      'coremltools', 'mmdeploy', 'torchvision']),
    ('mobileone_mm.detection', ['mmseg', 'onnx', 'torchvision']),
    ('mobileone_mm.segmentation', ['mmdet', 'onnx', 'torchvision']),
])
def test_import_with_other_libraries_blocked(package, blocked):
    result = import_with_blocked(package, blocked)
    assert result.returncode == 0, result.stderr


def test_blocking_works():
    result = import_with_blocked('mobileone_mm.detection', ['mmdet'])
    assert result.returncode != 0
    assert "'mmdet' is not a package" in result.stderr
