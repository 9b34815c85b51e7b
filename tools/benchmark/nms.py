"""Time this package's NMS and mmcv's compiled op, in turns, in one process.

Needs compiled ops: .venv-compiled/bin/python tools/benchmark/nms.py
"""

import argparse
import statistics
import sys
import time

import torch
from mmcv.utils import ext_loader

from mobileone_mm.benchmark.boxes import clustered
from mobileone_mm.commands.main import main as run
from mobileone_mm.utils.mmcv_ops import install_ops_fallback, nms

# name: (number of centers, side of the image in pixels); None is one center for each box
LAYOUTS = {'clustered': (50, 320), 'spread': (None, 320), 'hardly touching': (None, 3000)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--boxes', type=int, default=5000)
    parser.add_argument('--repeats', type=int, default=21)
    parser.add_argument('--iou-threshold', type=float, default=0.5)
    args = parser.parse_args()
    if install_ops_fallback():
        sys.exit('mmcv has no compiled ops here to compare with: make test-compiled builds them')
    compiled = ext_loader.load_ext('_ext', ['nms']).nms
    for name, (centers, size) in LAYOUTS.items():
        boxes, scores = clustered(args.boxes, centers or args.boxes, size)
        times = {nms.nms: [], compiled: []}
        for _ in range(args.repeats):
            for op, seconds in times.items():
                start = time.perf_counter()
                kept = op(boxes, scores, iou_threshold=args.iou_threshold, offset=0)
                seconds.append(time.perf_counter() - start)
        ratio = statistics.median(a / b for a, b in zip(times[nms.nms], times[compiled]))
        ours, theirs = (1e3 * statistics.median(seconds) for seconds in times.values())
        print(f'{name:16} {args.boxes} boxes, {len(kept)} kept: {ours:6.1f} ms, compiled '
              f'{theirs:6.1f} ms, median ratio {ratio:.2f} (torch {torch.__version__})')


if __name__ == '__main__':
    sys.exit(run(lambda _: main()))
