"""ONNX Runtime, a fixed number of images of a fixed size."""
_base_ = './_base_/detection.py'
backend_config = dict(type='onnxruntime')
