"""Graphs and post-processing that LiteRT and ExecuTorch share.

The graph normalizes, decodes boxes and makes the label map. The app does the suppression, like
:func:`.ssd_decode.select`.

XNNPACK hides the tensors inside its part of a graph. So the values before suppression or argmax are
outputs and are compared as such: scores and boxes of all anchors, or the logits.
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
    """The graph of a job, and the settings for :mod:`.ssd_decode`, empty for a segmentor.

    Raises:
        ExportError: The image is a batch of several images, or no graph supports the model.
    """
    image = job.single_image()
    pool_by_matrices(job.model, fixed=True)
    if job.task == 'segmentation':
        logits = SegmentorGraph(job.model, argmax=False)
        return FixedSizeSegmentor(logits).eval(), {}
    decode = detector_settings(job.model, Normalize(job.model.data_preprocessor)(image))
    graph = FixedSizeDetector(job.model, image)
    return (BestClassDetector(graph) if job.form else graph).eval(), decode


def postprocess(outputs: Sequence[np.ndarray], interface: Interface, size: Tuple[int, int]
                ) -> Union[Tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """See :func:`~mobileone_mm.export.running.exported_model.read_outputs`, for these outputs."""
    named = dict(zip(interface.output_names, outputs))
    if interface.task == 'segmentation':
        return named['labels'][0]
    scores, boxes = named['scores'], named['boxes']
    if interface.form:  # one class per anchor
        best = np.zeros((len(scores), len(interface.classes)), np.float32)
        best[np.arange(len(scores)), named['labels'].astype(int)] = scores
        return select(best, boxes, interface.settings)
    return select(scores[0], boxes[0], interface.settings)


def is_of_phones(interface: Interface) -> bool:
    """Whether a file has the outputs described here."""
    return interface.backend in BACKENDS


@torch.no_grad()
def raw_outputs(model: BaseModel, image: Tensor, outputs: Sequence[np.ndarray],
                interface: Interface) -> Tuple[List[Tensor], List[np.ndarray]]:
    """The outputs of the PyTorch model and of a file before suppression or argmax.

    Args:
        model: The PyTorch model.
        image: (1, 3, H, W), BGR, 0 to 255.
        outputs: The file's outputs for this image.
        interface: The file's interface.
    """
    named = dict(zip(interface.output_names, outputs))
    if interface.task == 'segmentation':
        ready = Normalize(model.data_preprocessor)(image)
        return list(tensors_of(model(ready, mode='tensor'))), [named['logits']]
    scores, boxes = RawDetectorGraph(model)(image)
    if interface.form:  # of two classes with almost equal scores, either may be the best
        labels = torch.from_numpy(named['labels']).long()
        scores = scores[0].gather(1, labels[:, None])
    return [scores, boxes], [named['scores'], named['boxes']]


@torch.no_grad()
def best_classes(model: BaseModel, image: Tensor) -> List[np.ndarray]:
    """The outputs of :class:`BestClassDetector`, computed by the PyTorch model."""
    scores, boxes = RawDetectorGraph(model)(image)
    best, labels = scores[0].max(-1)
    return [boxes[0].numpy(), best.numpy(), labels.numpy()]
