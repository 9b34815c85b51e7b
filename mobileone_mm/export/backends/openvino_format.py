"""Export OpenVINO's .xml and .bin from our ONNX graph (``--backend openvino``)."""

from pathlib import Path
from typing import Any

from ..graphs.trace import export_onnx
from ..interface import Interface
from ..job import ExportJob
from ..running.runtimes import OPENVINO_OPTIONS
from .onnx_format import INPUT, build_graph, open_axes


def export(job: ExportJob) -> Path:
    """Write ``job.out``, an .xml file with its .bin, and its interface.

    With ``job.half`` the weights are stored in float16; OpenVINO computes in the precision that the
    device prefers. On a CPU with bfloat16, the app has to request float32. The interface says so,
    and so does the file's ``rt_info``, which no plugin applies by itself.
    """
    import openvino
    graph = build_graph(job, half=False, pick='topk')
    intermediate = job.out.with_suffix('.tmp.onnx')
    export_onnx(graph, (job.image, ), intermediate, [INPUT], graph.output_names,
                open_axes(job, graph.output_names))
    model = openvino.convert_model(intermediate)
    request_float32(model)
    openvino.save_model(model, job.out, compress_to_fp16=job.half)
    intermediate.unlink()
    Interface.of(job, graph.output_names).write(job.out)
    return job.out


def request_float32(model: Any) -> None:
    """Note in an ``openvino.Model`` the precision that apps have to request."""
    for name, value in OPENVINO_OPTIONS.items():
        model.set_rt_info(value, ['runtime_options', name])
