"""TensorRT, one to eight images of 160 to 640 pixels. Not run here, like the static one."""
_base_ = './detection_tensorrt_static.py'
onnx_config = dict(
    input_shape=None,
    dynamic_axes=dict(
        input={0: 'batch', 2: 'height', 3: 'width'},
        dets={0: 'batch', 1: 'boxes'},
        labels={0: 'batch', 1: 'boxes'}))
backend_config = dict(model_inputs=[
    dict(input_shapes=dict(
        input=dict(
            min_shape=[1, 3, 160, 160], opt_shape=[1, 3, 320, 320], max_shape=[8, 3, 640, 640])))
])
