"""TensorRT, one image of 512 x 512. Not run here: there was neither a GPU nor TensorRT."""
_base_ = ['./_base_/segmentation.py', './_base_/tensorrt.py']
onnx_config = dict(input_shape=(512, 512))
shape = [1, 3, 512, 512]
backend_config = dict(model_inputs=[
    dict(input_shapes=dict(input=dict(min_shape=shape, opt_shape=shape, max_shape=shape)))
])
del shape
