"""Run an exported .xml file in OpenVINO: python run_openvino.py NAME.xml PICTURE."""

import sys

import cv2
import openvino
import reference


def predict(model, picture):
    """Boxes, scores and labels, or the label map, for a picture (h, w, 3), BGR."""
    info = reference.read(model)
    # Without the hint, a CPU with bfloat16 computes in bfloat16.
    compiled = openvino.Core().compile_model(
        str(model), 'CPU', dict(INFERENCE_PRECISION_HINT=info['precision']))
    results = compiled({info['input']['tensor']: reference.preprocess(picture, info)})
    outputs = [results[output['tensor']] for output in info['outputs']]
    return reference.postprocess(outputs, info, picture.shape[:2])


if __name__ == '__main__':
    reference.show(predict(sys.argv[1], cv2.imread(sys.argv[2])), reference.read(sys.argv[1]))
