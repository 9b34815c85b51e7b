"""mmdeploy: settings shared by all exports."""
# Fixes what mmdeploy 1.3.1 gets wrong or current torch has changed.
custom_imports = dict(
    imports=['mobileone_mm.export.mmdeploy_rewrites'], allow_failed_imports=False)

onnx_config = dict(
    type='onnx',
    export_params=True,
    keep_initializers_as_inputs=False,
    opset_version=11,
    save_file='end2end.onnx',
    input_names=['input'],
    input_shape=None,  # the size of the model config's test pipeline
    optimize=False)  # its passes need a compiled extension that the wheel lacks
