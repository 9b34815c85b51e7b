"""Core ML: an .mlpackage for Vision (``--backend coreml``).

The input is an image; normalization, with its standard deviation per channel, is part of the graph.
Detectors are a pipeline: the network with decoded boxes, then Apple's non-maximum suppression,
whose outputs Vision turns into labeled boxes. Segmentors give a map of labels.
"""

import json
import logging
import warnings
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Sequence, Tuple, Union, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ExportError
from ..graphs.adaptive_pool import pool_by_matrices
from ..graphs.fixed_size import FixedSizeDetector
from ..graphs.models import Normalize, SegmentorGraph
from ..interface import Interface
from ..job import ExportJob
from ..outside_the_graph.decode_settings import detector_settings
from ..outside_the_graph.ssd_decode import select
from .coreml_nms import OUTPUTS, RAW_OUTPUTS, with_suppression

if TYPE_CHECKING:
    from mmdet.models.detectors import SingleStageDetector
    from mmseg.models import EncoderDecoder

INPUT = 'image'
PREVIEW = 'com.apple.coreml.model.preview.'  # Xcode's keys


class CoreMLDetector(FixedSizeDetector):
    """An SSD detector in the terms of Apple's suppression stage, for one image.

    Args:
        detector: As in :class:`FixedSizeDetector`.
        image: As in :class:`FixedSizeDetector`.
    """

    def __init__(self, detector: 'SingleStageDetector', image: Tensor) -> None:
        super().__init__(detector, image)
        self.output_names = RAW_OUTPUTS

    def forward(self, image: Tensor) -> Tuple[Tensor, Tensor]:
        """Every anchor's prediction.

        Args:
            image: (1, 3, H, W), 0 to 255.

        Returns:
            Confidence (P, C), and coordinates (P, 4) as center x, center y, width and height in
            parts of the image's width and height.
        """
        scores, boxes = super().forward(image)
        height, width = image.shape[-2:]
        low, high = boxes[0, :, :2], boxes[0, :, 2:]
        scale = boxes.new_tensor([width, height])
        return scores[0], torch.cat([(low + high) / 2 / scale, (high - low) / scale], 1)


class CoreMLSegmentor(SegmentorGraph):
    """A segmentor whose label map has no batch axis, by Core ML's own upsampling.

    Args:
        segmentor: As in :class:`SegmentorGraph`, with a channel for each class.

    Raises:
        ExportError: The head has one channel, or as in :class:`SegmentorGraph`.
    """

    def __init__(self, segmentor: 'EncoderDecoder') -> None:
        super().__init__(segmentor, argmax=False)
        if segmentor.decode_head.out_channels == 1:
            raise ExportError('a decode head with one output channel is not exported to Core ML')
        self.output_names = ('labels', )

    def forward(self, image: Tensor) -> Tensor:
        """Labels (H, W), int32, of an image (1, 3, H, W), 0 to 255."""
        logits = F.interpolate(super().forward(image), size=image.shape[-2:], mode='bilinear',
                               align_corners=self.model.decode_head.align_corners)
        return logits.argmax(1)[0].int()


CoreMLGraph = Union[CoreMLDetector, CoreMLSegmentor]


def export(job: ExportJob) -> Path:
    """Write ``job.out``, an .mlpackage. With ``job.half`` the network computes in float16.

    Whole images only, of the size of ``job.image``, one at a time.
    """
    graph, rgb = build_graph(job)
    model = convert(graph, job.image, rgb, job.half)
    if job.task == 'detection':
        model = with_suppression(model, job.model.test_cfg, job.classes)
    _describe(model, job)
    model.save(str(job.out))
    outputs: Tuple[str, ...] = graph.output_names
    decode: Dict[str, Any] = {}
    if job.task == 'detection':
        outputs, decode = OUTPUTS, detector_settings(job.model, graph.prepare(job.image))
    Interface.of(job, outputs, layout='image', **decode).write(job.out)
    return job.out


def postprocess(outputs: Sequence[np.ndarray], interface: Interface, size: Tuple[int, int]
                ) -> Union[Tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """As :func:`~mobileone_mm.export.running.exported_model.read_outputs`, of what it gives.

    mmdet's suppression stands in for Apple's, so that every box of the network can be compared.
    """
    if interface.task == 'segmentation':
        return outputs[0][0]
    scores, coordinates = outputs[0][0], outputs[1][0]
    centers, halves = coordinates[:, :2], coordinates[:, 2:] / 2
    scale = np.array([size[1], size[0]] * 2, np.float32)
    boxes = np.concatenate([centers - halves, centers + halves], 1) * scale
    return select(scores, boxes, interface.settings)


def build_graph(job: ExportJob) -> Tuple[CoreMLGraph, bool]:
    """The graph to convert, and whether it takes RGB: Core ML produces either order itself."""
    image = job.single_image()
    pool_by_matrices(job.model, fixed=True)
    graph: CoreMLGraph = (CoreMLDetector(job.model, image) if job.task == 'detection'
                          else CoreMLSegmentor(job.model))
    normalize = cast(Normalize, graph.normalize)
    rgb, normalize.swap = normalize.swap, False
    return graph.eval(), rgb


def convert(graph: CoreMLGraph, image: Tensor, rgb: bool, half: bool = False) -> Any:
    """Trace a graph and convert it to an ML program with an image input."""
    with quiet_coremltools():
        import coremltools as ct
        layout = ct.colorlayout.RGB if rgb else ct.colorlayout.BGR
        shape = (1, *image.shape[1:])
        precision: Any = ct.precision.FLOAT32
        if half:
            precision = ct.transform.FP16ComputePrecision(op_selector=_in_half)
        with torch.no_grad():
            traced = torch.jit.trace(graph, torch.zeros(shape), check_trace=False)
        return ct.convert(
            traced, convert_to='mlprogram', compute_precision=precision,
            minimum_deployment_target=ct.target.iOS15,
            inputs=[ct.ImageType(name=INPUT, shape=shape, color_layout=layout)],
            outputs=[ct.TensorType(name=name) for name in graph.output_names])


def _in_half(op: Any) -> bool:
    """Whether an operator may compute in float16: all on maps, not the decoding of boxes.

    Anchors reach 320 pixels, where float16 knows steps of a quarter.
    """
    return op.outputs[0].rank == 4 or op.op_type == 'reduce_argmax'


def _describe(model: Any, job: ExportJob) -> None:
    """What Xcode shows: descriptions, and a preview of segmentations."""
    about: Dict[str, str] = {}
    if job.task == 'detection':
        about = dict(zip(OUTPUTS, (
            'boxes x classes', 'boxes x (center x, center y, width, height), 0 to 1')))
    else:
        about['labels'] = 'class of each pixel: ' + ', '.join(
            f'{index} {name}' for index, name in enumerate(job.classes))
        model.user_defined_metadata[PREVIEW + 'type'] = 'imageSegmenter'
        model.user_defined_metadata[PREVIEW + 'parameters'] = json.dumps(
            dict(labels=list(job.classes), colors=_colors(len(job.classes))))
    for name, text in about.items():
        model.output_description[name] = text
    model.short_description = f'MobileOne {job.task}'


def _colors(count: int) -> List[str]:
    """A color for each class: black for the first, then well apart."""
    return ['#000000'] + ['#%06x' % (index * 0x9e3779 % 0xffffff) for index in range(1, count)]


@contextmanager
def quiet_coremltools() -> Iterator[None]:
    """Without progress bars and notes on tracing, untested torch versions and macOS."""
    logger = logging.getLogger('coremltools')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
