"""Run an exported .pte file in ExecuTorch: python run_executorch.py NAME.pte PICTURE."""

import sys

import cv2
import reference
import torch  # ExecuTorch's Python API works on torch tensors
from executorch.runtime import Runtime


def predict(model, picture):
    """Boxes, scores and labels, or the label map, for a picture (h, w, 3), BGR."""
    info = reference.read(model)
    method = Runtime.get().load_program(str(model)).load_method('forward')
    image = torch.from_numpy(reference.preprocess(picture, info))
    outputs = [output.numpy() for output in method.execute([image])]  # they have no names
    return reference.postprocess(outputs, info, picture.shape[:2])


if __name__ == '__main__':
    reference.show(predict(sys.argv[1], cv2.imread(sys.argv[2])), reference.read(sys.argv[1]))
