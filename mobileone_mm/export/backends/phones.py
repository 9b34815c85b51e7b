"""What LiteRT and ExecuTorch have in common: the graph, and what is left to the app.

Normalization and the decoding of boxes are in the graph, and so is the label map. Suppression is
the app's, as :func:`.ssd_decode.select` does it.

XNNPACK keeps its part of a graph to itself, so that the maps before suppression or argmax are
compared as outputs: scores and boxes of all anchors, or the logits beside the labels.
"""

from typing import Any, Dict, List, Sequence, Tuple, Union

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor

from ...folding.verify import tensors_of
from ..graphs.adaptive_pool import pool_by_matrices
from ..graphs.fixed_size import BestClassDetector, FixedSizeDetector, FixedSizeSegmentor
from ..graphs.models import Normalize, RawDetectorGraph, SegmentorGraph
from ..interface import Interface
from ..job import ExportJob
from ..outside_the_graph.decode_settings import detector_settings
from ..outside_the_graph.ssd_decode import select

BACKENDS = ('litert', 'executorch')
PhoneGraph = Union[FixedSizeDetector, FixedSizeSegmentor, BestClassDetector]


def phone_graph(job: ExportJob) -> Tuple[PhoneGraph, Dict[str, Any]]:
    """The graph of a job, and the settings of :mod:`.ssd_decode`; none of a segmentor.

    Raises:
        ExportError: The image is a batch of several, or the model is none that graphs know.
    """
    image = job.single_image()
    pool_by_matrices(job.model, fixed=True)
    if job.task == 'segmentation':
        logits = SegmentorGraph(job.model, argmax=False, half=job.half)
        return FixedSizeSegmentor(logits).eval(), {}
    decode = detector_settings(job.model, Normalize(job.model.data_preprocessor)(image))
    graph = FixedSizeDetector(job.model, image, half=job.half)
    return (BestClassDetector(graph) if job.form else graph).eval(), decode


def postprocess(outputs: Sequence[np.ndarray], interface: Interface, size: Tuple[int, int]
                ) -> Union[Tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """As :func:`~mobileone_mm.export.running.exported_model.read_outputs`, of a phone's outputs."""
    named = dict(zip(interface.output_names, outputs))
    if interface.task == 'segmentation':
        return named['labels'][0]
    scores, boxes = named['scores'], named['boxes']
    if interface.form:  # one class an anchor
        best = np.zeros((len(scores), len(interface.classes)), np.float32)
        best[np.arange(len(scores)), named['labels'].astype(int)] = scores
        return select(best, boxes, interface.settings)
    return select(scores[0], boxes[0], interface.settings)


def is_of_phones(interface: Interface) -> bool:
    """Whether a file has the outputs of this module."""
    return interface.backend in BACKENDS


@torch.no_grad()
def raw_outputs(model: BaseModel, image: Tensor, outputs: Sequence[np.ndarray],
                interface: Interface) -> Tuple[List[Tensor], List[np.ndarray]]:
    """The PyTorch model's and a file's outputs before suppression or argmax.

    Args:
        model: The PyTorch model.
        image: (1, 3, H, W), BGR, 0 to 255.
        outputs: What the file gives for it.
        interface: Of the file.
    """
    named = dict(zip(interface.output_names, outputs))
    if interface.task == 'segmentation':
        ready = Normalize(model.data_preprocessor)(image)
        return list(tensors_of(model(ready, mode='tensor'))), [named['logits']]
    scores, boxes = RawDetectorGraph(model)(image)
    if interface.form:  # of two classes nearly as probable either may be the best
        labels = torch.from_numpy(named['labels']).long()
        scores = scores[0].gather(1, labels[:, None])
    return [scores, boxes], [named['scores'], named['boxes']]


@torch.no_grad()
def best_classes(model: BaseModel, image: Tensor) -> List[np.ndarray]:
    """The outputs of :class:`BestClassDetector` by the PyTorch model, for an image as above."""
    scores, boxes = RawDetectorGraph(model)(image)
    best, labels = scores[0].max(-1)
    return [boxes[0].numpy(), best.numpy(), labels.numpy()]
