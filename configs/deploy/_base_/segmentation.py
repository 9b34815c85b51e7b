"""mmdeploy: settings shared by exports of segmentors.

Input: normalized RGB (N, 3, H, W) from the model's data preprocessor. Output: `output`
(N, 1, H, W), the label of each pixel.
"""
_base_ = './onnx.py'
onnx_config = dict(output_names=['output'])
codebase_config = dict(type='mmseg', task='Segmentation', with_argmax=True)
