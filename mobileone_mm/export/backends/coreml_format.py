"""Export to Core ML: an .mlpackage for Vision (``--backend coreml``).

The input is an image. The graph normalizes it, with a standard deviation for each channel.
A detector is a pipeline: the network with decoded boxes, then Apple's non-maximum suppression.
Vision turns its outputs into labeled boxes. A segmentor returns a label map.
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
    """An SSD detector for one image, with the outputs that Apple's suppression stage expects.

    Args:
        detector: See :class:`FixedSizeDetector`.
        image: See :class:`FixedSizeDetector`.
    """

    def __init__(self, detector: 'SingleStageDetector', image: Tensor) -> None:
        super().__init__(detector, image)
        self.output_names = RAW_OUTPUTS

    def forward(self, image: Tensor) -> Tuple[Tensor, Tensor]:
        """Predict confidence and coordinates for every anchor.

        Args:
            image: (1, 3, H, W), 0 to 255.

        Returns:
            Confidence (P, C), and coordinates (P, 4) as center x, center y, width and height,
            relative to the image's width and height.
        """
        scores, boxes = super().forward(image)
        height, width = image.shape[-2:]
        low, high = boxes[0, :, :2], boxes[0, :, 2:]
        scale = boxes.new_tensor([width, height])
        return scores[0], torch.cat([(low + high) / 2 / scale, (high - low) / scale], 1)


class CoreMLSegmentor(SegmentorGraph):
    """A segmentor that uses Core ML's own upsampling and returns a label map without a batch axis.

    Args:
        segmentor: See :class:`SegmentorGraph`; its head needs a channel for each class.

    Raises:
        ExportError: The head has one channel, or see :class:`SegmentorGraph`.
    """

    def __init__(self, segmentor: 'EncoderDecoder') -> None:
        super().__init__(segmentor, argmax=False)
        if segmentor.decode_head.out_channels == 1:
            raise ExportError('Core ML export does not support decode heads with one output '
                              'channel')
        self.output_names = ('labels', )

    def forward(self, image: Tensor) -> Tensor:
        """Labels (H, W), int32, for an image (1, 3, H, W), 0 to 255."""
        logits = F.interpolate(super().forward(image), size=image.shape[-2:], mode='bilinear',
                               align_corners=self.model.decode_head.align_corners)
        return logits.argmax(1)[0].int()


CoreMLGraph = Union[CoreMLDetector, CoreMLSegmentor]


def export(job: ExportJob) -> Path:
    """Write ``job.out``, an .mlpackage; with ``job.half`` the network computes in float16.

    The package takes one image at a time, of the size of ``job.image``.
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
    """See :func:`~mobileone_mm.export.running.exported_model.read_outputs`, for a package.

    mmdet's suppression replaces Apple's, so that every box of the network can be compared.
    """
    if interface.task == 'segmentation':
        return outputs[0][0]
    scores, coordinates = outputs[0][0], outputs[1][0]
    centers, halves = coordinates[:, :2], coordinates[:, 2:] / 2
    scale = np.array([size[1], size[0]] * 2, np.float32)
    boxes = np.concatenate([centers - halves, centers + halves], 1) * scale
    return select(scores, boxes, interface.settings)


def build_graph(job: ExportJob) -> Tuple[CoreMLGraph, bool]:
    """The graph to convert, and whether it takes RGB; Core ML itself provides either order."""
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
    """Whether an operator may compute in float16: all that work on maps, but not box decoding.

    Anchors reach 320 pixels, where float16 has steps of a quarter.
    """
    return op.outputs[0].rank == 4 or op.op_type == 'reduce_argmax'


def _describe(model: Any, job: ExportJob) -> None:
    """Set what Xcode shows: descriptions and a segmentation preview."""
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
    """A color for each class: black for the first, distinct colors for the rest."""
    return ['#000000'] + ['#%06x' % (index * 0x9e3779 % 0xffffff) for index in range(1, count)]


@contextmanager
def quiet_coremltools() -> Iterator[None]:
    """Hide progress bars and notes on tracing, untested torch versions and macOS."""
    logger = logging.getLogger('coremltools')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
