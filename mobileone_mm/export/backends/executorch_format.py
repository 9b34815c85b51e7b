"""ExecuTorch with XNNPACK, PyTorch's runtime for phones (``--backend executorch``).

The program takes (1, 3, H, W) and has the outputs of :mod:`.phones`.
"""

from pathlib import Path

import torch

from ...utils.fileio import atomic_path
from ..interface import Interface
from ..job import ExportJob
from ..quiet import silence
from .phones import phone_graph, postprocess

__all__ = ['export', 'postprocess']


def export(job: ExportJob) -> Path:
    """Write ``job.out``, a .pte file, and its interface."""
    graph, decode = phone_graph(job)
    # Of other strides it would compile, and fail at run time (xnn_status_invalid_parameter).
    example = torch.zeros_like(job.image, memory_format=torch.contiguous_format)
    with silence(), torch.no_grad():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        program = to_edge_transform_and_lower(
            torch.export.export(graph, (example, )), partitioner=[XnnpackPartitioner()])
        content = program.to_executorch().buffer
    with atomic_path(job.out) as path:
        path.write_bytes(content)
    names = graph.output_names
    Interface.of(job, names, input_tensor=None, output_tensors=[None] * len(names),
                 **decode).write(job.out)
    return job.out
