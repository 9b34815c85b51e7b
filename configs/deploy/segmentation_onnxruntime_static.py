"""ONNX Runtime, a fixed number of images of a fixed size."""
_base_ = './_base_/segmentation.py'
backend_config = dict(type='onnxruntime')
