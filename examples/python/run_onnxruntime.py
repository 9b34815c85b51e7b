"""Run an exported .onnx file in ONNX Runtime: python run_onnxruntime.py NAME.onnx PICTURE."""

import sys

import cv2
import onnxruntime
import reference


def predict(model, picture):
    """Boxes, scores and labels, or the label map, for a picture (h, w, 3), BGR."""
    info = reference.read(model)
    session = onnxruntime.InferenceSession(str(model), providers=['CPUExecutionProvider'])
    image = reference.preprocess(picture, info)
    outputs = session.run([output['tensor'] for output in info['outputs']],
                          {info['input']['tensor']: image})
    return reference.postprocess(outputs, info, picture.shape[:2])


if __name__ == '__main__':
    reference.show(predict(sys.argv[1], cv2.imread(sys.argv[2])), reference.read(sys.argv[1]))
