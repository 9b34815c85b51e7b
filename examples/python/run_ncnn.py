"""Run an exported .param file and its .bin in ncnn: python run_ncnn.py NAME.param PICTURE."""

import sys
from pathlib import Path

import cv2
import ncnn
import numpy as np
import reference


def predict(model, picture):
    """Boxes, scores and labels, or the label map, for a picture (h, w, 3), BGR."""
    info, net = reference.read(model), ncnn.Net()
    half = info['precision'] == 'f16'  # as in the parity check; on a phone, float16 is faster
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = half
    net.load_param(str(model))
    net.load_model(str(Path(model).with_suffix('.bin')))
    image = reference.preprocess(picture, info)
    with net.create_extractor() as extractor:
        extractor.input(info['input']['tensor'], ncnn.Mat(image))
        outputs = [np.array(extractor.extract(output['tensor'])[1]) for output in info['outputs']]
    return reference.postprocess(outputs, info, picture.shape[:2])


if __name__ == '__main__':
    reference.show(predict(sys.argv[1], cv2.imread(sys.argv[2])), reference.read(sys.argv[1]))
