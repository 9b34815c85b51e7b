"""LiteRT, once TensorFlow Lite, through litert-torch (``--backend litert``).

The graph takes channels last, as Android's bitmaps have them, and normalizes. Detectors give the
decoded boxes of all anchors, for :func:`.ssd_decode.select`; segmentors the label map.
"""

from pathlib import Path
from typing import Dict

from torch import Tensor, nn

from ...utils.fileio import atomic_path
from ..interface import Interface
from ..job import ExportJob
from ..quiet import silence
from .phones import PhoneGraph, phone_graph, postprocess

__all__ = ['ChannelsLast', 'export', 'postprocess']

INPUT = 'image'


class ChannelsLast(nn.Module):
    """A graph for LiteRT, which names the outputs by the keys of a dict.

    Args:
        network: Takes images (1, 3, H, W).
    """

    def __init__(self, network: PhoneGraph) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Dict[str, Tensor]:
        """The outputs by their names, of an image (1, H, W, 3)."""
        return dict(zip(self.network.output_names, self.network(image.permute(0, 3, 1, 2))))


def export(job: ExportJob) -> Path:
    """Write ``job.out``, a .tflite file, and its interface."""
    graph, decode = phone_graph(job)
    example = job.image.permute(0, 2, 3, 1).contiguous()
    with silence(), atomic_path(job.out) as path:
        import litert_torch
        litert_torch.convert(ChannelsLast(graph).eval(), sample_kwargs={INPUT: example}
                             ).export(str(path))
    # A signature has its outputs in the order of the alphabet.
    Interface.of(job, sorted(graph.output_names), layout='NHWC', **decode).write(job.out)
    return job.out
