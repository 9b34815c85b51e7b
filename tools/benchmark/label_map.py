"""Compare two ways to get a label map: interpolation and argmax, or matrix products.

    python tools/benchmark/label_map.py --classes 150 --cells 32 --size 512

Both ways take turns in ONNX Runtime and OpenVINO, on one thread.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobileone_mm.benchmark.latency.timing import summarize, take_turns
from mobileone_mm.commands.main import main as run
from mobileone_mm.export.graphs.trace import export_onnx
from mobileone_mm.export.graphs.upsampled_argmax import PICKS, upsampled_argmax
from mobileone_mm.export.running.runtimes import load_runtime


class LabelMap(nn.Module):
    """One way to get the label map."""

    def __init__(self, size: int, pick: str) -> None:
        super().__init__()
        self.size, self.pick = (size, size), pick

    def forward(self, logits: Tensor) -> Tensor:
        if self.pick == 'interpolate':
            return F.interpolate(logits, self.size, mode='bilinear').argmax(1)
        return upsampled_argmax(logits, self.size, pick=self.pick)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--classes', type=int, default=150)
    parser.add_argument('--cells', type=int, default=32, help='cells of the logits, per side')
    parser.add_argument('--size', type=int, default=512, help='side of the label map, in pixels')
    parser.add_argument('--rounds', type=int, default=7)
    args = parser.parse_args()
    logits = torch.randn(1, args.classes, args.cells, args.cells)
    calls, times = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for way in ('interpolate', *PICKS):
            path = export_onnx(LabelMap(args.size, way), (logits, ), Path(folder, f'{way}.onnx'),
                               ['logits'], ['labels'])
            for backend in ('onnxruntime', 'openvino'):
                runtime = load_runtime(backend, path, 1)
                runtime(logits.numpy())
                name = f'{backend:12} {way:12}'
                calls[name], times[name] = lambda r=runtime: r(logits.numpy()), []
        for name, samples in take_turns(calls, args.rounds, turn_ms=0):
            times[name] += samples
    for name, samples in times.items():
        found = summarize(samples)
        print(f'{name} {found.median:8.1f} ms, min {found.min:.1f}')


if __name__ == '__main__':
    sys.exit(run(lambda _: main()))
