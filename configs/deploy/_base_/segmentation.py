"""mmdeploy: what exporting a segmentor to any backend has in common.

Input: normalized RGB (N, 3, H, W), as the model's data preprocessor makes it. Output: `output`
(N, 1, H, W), the label of each pixel.
"""
_base_ = './onnx.py'
onnx_config = dict(output_names=['output'])
codebase_config = dict(type='mmseg', task='Segmentation', with_argmax=True)
