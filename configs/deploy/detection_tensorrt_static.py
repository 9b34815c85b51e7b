"""TensorRT, one image of 320 x 320. Not run here: there was neither a GPU nor TensorRT."""
_base_ = ['./_base_/detection.py', './_base_/tensorrt.py']
onnx_config = dict(input_shape=(320, 320))
# mmdeploy's suppression plugin takes at most a few thousand anchors.
codebase_config = dict(post_processing=dict(pre_top_k=3840))
shape = [1, 3, 320, 320]
backend_config = dict(model_inputs=[
    dict(input_shapes=dict(input=dict(min_shape=shape, opt_shape=shape, max_shape=shape)))
])
del shape
