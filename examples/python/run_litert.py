"""Run an exported .tflite file in LiteRT: python run_litert.py NAME.tflite PICTURE."""

import sys

import cv2
import reference
from ai_edge_litert.interpreter import Interpreter


def predict(model, picture):
    """Boxes, scores and labels, or the label map, for a picture (h, w, 3), BGR."""
    info = reference.read(model)
    signature = Interpreter(str(model)).get_signature_runner()
    results = signature(**{info['input']['tensor']: reference.preprocess(picture, info)})
    outputs = [results[output['tensor']] for output in info['outputs']]
    return reference.postprocess(outputs, info, picture.shape[:2])


if __name__ == '__main__':
    reference.show(predict(sys.argv[1], cv2.imread(sys.argv[2])), reference.read(sys.argv[1]))
