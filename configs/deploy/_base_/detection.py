"""mmdeploy: settings shared by exports of detectors.

Input: normalized RGB (N, 3, H, W) from the model's data preprocessor. Outputs: `dets` (N, K, 5),
that is x1, y1, x2, y2 in pixels of the input and score, best first, and `labels` (N, K).
"""
_base_ = './onnx.py'
onnx_config = dict(output_names=['dets', 'labels'])
codebase_config = dict(
    type='mmdet',
    task='ObjectDetection',
    model_type='end2end',
    post_processing=dict(  # thresholds and numbers of boxes in the model's test_cfg take precedence
        score_threshold=0.02,
        confidence_threshold=0.005,
        iou_threshold=0.45,
        max_output_boxes_per_class=200,
        pre_top_k=-1,
        keep_top_k=200,
        background_label_id=-1))
