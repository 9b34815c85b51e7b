"""mmdeploy: what exporting a detector to any backend has in common.

Input: normalized RGB (N, 3, H, W), as the model's data preprocessor makes it. Outputs: `dets`
(N, K, 5) as x1, y1, x2, y2 in pixels of the input and score, best first; `labels` (N, K).
"""
# Rewrites what mmdeploy 1.3.1 gets wrong or current torch has changed.
custom_imports = dict(
    imports=['mobileone_mm.export.mmdeploy_rewrites'], allow_failed_imports=False)

onnx_config = dict(
    type='onnx',
    export_params=True,
    keep_initializers_as_inputs=False,
    opset_version=11,
    save_file='end2end.onnx',
    input_names=['input'],
    output_names=['dets', 'labels'],
    input_shape=None,  # the size that the model config's test pipeline resizes to
    optimize=False)  # its passes need a compiled extension that the wheel has not
codebase_config = dict(
    type='mmdet',
    task='ObjectDetection',
    model_type='end2end',
    post_processing=dict(  # thresholds and numbers of boxes of the model's test_cfg go before
        score_threshold=0.02,
        confidence_threshold=0.005,
        iou_threshold=0.45,
        max_output_boxes_per_class=200,
        pre_top_k=-1,
        keep_top_k=200,
        background_label_id=-1))
