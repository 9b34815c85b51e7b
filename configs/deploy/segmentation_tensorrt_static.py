"""TensorRT, one image of 512 x 512. Not run here: there was neither a GPU nor TensorRT."""
_base_ = './_base_/segmentation.py'
onnx_config = dict(input_shape=(512, 512))
backend_config = dict(
    type='tensorrt',
    common_config=dict(fp16_mode=False, max_workspace_size=1 << 30),
    model_inputs=[
        dict(
            input_shapes=dict(
                input=dict(
                    min_shape=[1, 3, 512, 512],
                    opt_shape=[1, 3, 512, 512],
                    max_shape=[1, 3, 512, 512])))
    ])
