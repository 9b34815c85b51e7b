"""An exported .pte in ExecuTorch: python run_executorch.py NAME.pte PICTURE."""

import sys

import cv2
import reference
import torch  # ExecuTorch's Python takes and gives its tensors
from executorch.runtime import Runtime


def predict(model, picture):
    """Boxes, scores and labels, or the label map, of a picture (h, w, 3), BGR."""
    info = reference.read(model)
    method = Runtime.get().load_program(str(model)).load_method('forward')
    image = torch.from_numpy(reference.preprocess(picture, info))
    outputs = [output.numpy() for output in method.execute([image])]  # they have no names
    return reference.postprocess(outputs, info, picture.shape[:2])


if __name__ == '__main__':
    reference.show(predict(sys.argv[1], cv2.imread(sys.argv[2])), reference.read(sys.argv[1]))
