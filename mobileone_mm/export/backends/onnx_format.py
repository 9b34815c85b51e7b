"""Export our own end-to-end ONNX graph, including normalization (``--backend onnx``)."""

from pathlib import Path
from typing import Dict, Sequence, Union

from ..graphs.adaptive_pool import pool_by_matrices
from ..graphs.models import DetectorGraph, SegmentorGraph
from ..graphs.trace import export_onnx
from ..interface import Interface
from ..job import ExportJob

INPUT = 'image'


def build_graph(job: ExportJob, half: bool,
                pick: str = 'argmax') -> Union[DetectorGraph, SegmentorGraph]:
    """The end-to-end graph of a job's model; for ``pick``, see :class:`SegmentorGraph`."""
    pool_by_matrices(job.model)
    if job.task == 'detection':
        return DetectorGraph(job.model, half=half)
    return SegmentorGraph(job.model, half=half, pick=pick)


def open_axes(job: ExportJob, outputs: Sequence[str]) -> Dict[str, Dict[int, str]]:
    """The ``dynamic_axes`` for the graph of :func:`build_graph`."""
    spatial = (1, 2) if job.task == 'segmentation' else ()
    return job.dynamic_axes(INPUT, {name: spatial for name in outputs})


def export(job: ExportJob, pick: str = 'argmax') -> Path:
    """Write ``job.out``, an .onnx file, with its interface; ``pick`` is that of the graph."""
    graph = build_graph(job, job.half, pick)
    export_onnx(graph, (job.image, ), job.out, [INPUT], graph.output_names,
                open_axes(job, graph.output_names))
    Interface.of(job, graph.output_names).write(job.out)
    return job.out
