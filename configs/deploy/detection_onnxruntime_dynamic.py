"""ONNX Runtime, any number of images of any size."""
_base_ = './detection_onnxruntime_static.py'
onnx_config = dict(
    dynamic_axes=dict(
        input={0: 'batch', 2: 'height', 3: 'width'},
        dets={0: 'batch', 1: 'boxes'},
        labels={0: 'batch', 1: 'boxes'}))
