"""Export to ExecuTorch, PyTorch's runtime for phones, with XNNPACK (``--backend executorch``).

The program takes (1, 3, H, W) and has the outputs described in :mod:`.phones`.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from ...utils.fileio import atomic_path
from ..interface import Interface
from ..job import ExportJob
from ..quiet import silence
from .phones import phone_graph, postprocess

__all__ = ['export', 'postprocess', 'write_executorch']


def export(job: ExportJob) -> Path:
    """Write ``job.out``, a .pte file, and its interface."""
    graph, decode = phone_graph(job)
    write_executorch(graph, job.image, job.out)
    names = graph.output_names
    Interface.of(job, names, input_tensor=None, output_tensors=[None] * len(names),
                 **decode).write(job.out)
    return job.out


def write_executorch(network: nn.Module, image: Tensor, path: Path) -> None:
    """Write a network in eval mode, for images with the shape (N, 3, H, W) of ``image``."""
    # With other strides it compiles, but fails at run time (xnn_status_invalid_parameter).
    example = torch.zeros_like(image, memory_format=torch.contiguous_format)
    with silence(), torch.no_grad(), atomic_path(path) as temporary:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        program = to_edge_transform_and_lower(
            torch.export.export(network, (example, )), partitioner=[XnnpackPartitioner()])
        temporary.write_bytes(program.to_executorch().buffer)
