"""Export to LiteRT, formerly TensorFlow Lite, with litert-torch (``--backend litert``).

The graph takes channels last, like Android's bitmaps, and normalizes. A detector returns the
decoded boxes of all anchors, for :func:`.ssd_decode.select`; a segmentor returns the label map.
"""

from pathlib import Path
from typing import Dict, Sequence

from torch import Tensor, nn

from ...folding.verify import tensors_of
from ...utils.fileio import atomic_path
from ..interface import Interface
from ..job import ExportJob
from ..quiet import silence
from .phones import phone_graph, postprocess

__all__ = ['export', 'postprocess', 'write_litert']

INPUT = 'image'


class ChannelsLast(nn.Module):
    """A network for LiteRT, which takes the names of outputs from the keys of a dict.

    Args:
        network: Takes images (1, 3, H, W).
        names: Names of its outputs.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, image: Tensor) -> Dict[str, Tensor]:
        """The outputs by name, for an image (1, H, W, 3)."""
        return dict(zip(self.names, tensors_of(self.network(image.permute(0, 3, 1, 2)))))


def export(job: ExportJob) -> Path:
    """Write ``job.out``, a .tflite file, and its interface."""
    graph, decode = phone_graph(job)
    write_litert(graph, job.image, job.out, graph.output_names)
    # A signature sorts its outputs by name.
    Interface.of(job, sorted(graph.output_names), input_tensor=INPUT, layout='NHWC', **decode
                 ).write(job.out)
    return job.out


def write_litert(network: nn.Module, image: Tensor, path: Path, names: Sequence[str]) -> None:
    """Write a network in eval mode, for images with the shape (N, 3, H, W) of ``image``."""
    example = image.permute(0, 2, 3, 1).contiguous()
    with silence(), atomic_path(path) as temporary:
        import litert_torch
        litert_torch.convert(ChannelsLast(network, names).eval(), sample_kwargs={INPUT: example}
                             ).export(str(temporary))
