"""mmdeploy: what exporting a segmentor to any backend has in common.

Input: normalized RGB (N, 3, H, W), as the model's data preprocessor makes it. Output: `output`
(N, 1, H, W), the label of each pixel.
"""
# What mmdeploy 1.3.1 needs on current torch.
custom_imports = dict(
    imports=['mobileone_mm.export.mmdeploy_rewrites'], allow_failed_imports=False)

onnx_config = dict(
    type='onnx',
    export_params=True,
    keep_initializers_as_inputs=False,
    opset_version=11,
    save_file='end2end.onnx',
    input_names=['input'],
    output_names=['output'],
    input_shape=None,  # the image's own size
    optimize=False)  # its passes need a compiled extension that the wheel has not
codebase_config = dict(type='mmseg', task='Segmentation', with_argmax=True)
