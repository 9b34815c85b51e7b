"""TensorRT, one to eight images of 128 to 1024 pixels. Not run here, like the static one."""
_base_ = './segmentation_tensorrt_static.py'
onnx_config = dict(
    input_shape=None,
    dynamic_axes=dict(
        input={0: 'batch', 2: 'height', 3: 'width'},
        output={0: 'batch', 2: 'height', 3: 'width'}))
backend_config = dict(model_inputs=[
    dict(input_shapes=dict(
        input=dict(
            min_shape=[1, 3, 128, 128], opt_shape=[1, 3, 512, 512], max_shape=[8, 3, 1024, 1024])))
])
