"""Write fixtures/vectors.json, the test vectors for the Kotlin and Swift ports.

    python make_fixtures.py

Each case holds the arguments of a function in reference.py, by name, and the `expected` result.
Arrays are flat; a case gives a shape where the other arguments do not imply it.
"""

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import reference

VECTORS = Path(__file__).resolve().parents[1] / 'fixtures' / 'vectors.json'
LEVELS = [  # 12 and 4 anchors
    dict(size=[2, 3], stride=[16, 16],
         anchors=[[-4., -4., 12., 12.], [-8., -2., 16., 10.]]),
    dict(size=[1, 2], stride=[24, 32],
         anchors=[[-10., -10., 30., 30.], [-2., -12., 22., 34.]])]
CLASSES = 3
THRESHOLDS = dict(score_thr=.1, nms_pre=-1, min_bbox_size=-1, iou_threshold=.45, max_per_img=100)
Case = Dict[str, Any]


def make() -> Dict[str, Any]:
    """The cases for each function, and a whole NAME.json under `info`."""
    random = np.random.default_rng(0)
    return dict(normalize=normalize_cases(random), decode=decode_cases(random),
                detections=detections_cases(random), label_map=label_map_cases(random), info=info())


def normalize_cases(random: np.random.Generator) -> List[Case]:
    """Two rows of three pixels, in both channel orders and both layouts."""
    pixels = random.integers(0, 256, (2, 3, 3))
    settings = [dict(channels='RGB', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
                dict(channels='BGR', mean=[0., 0., 0.], std=[1., 1., 1.])]
    settings = [dict(one, layout=layout) for one in settings for layout in ('NCHW', 'NHWC')]
    return [dict(rgb=flat(pixels), height=2, width=3, input=one,
                 expected=flat(reference.normalize(pixels, one))) for one in settings]


def decode_cases(random: np.random.Generator) -> List[Case]:
    """Deltas; some boxes leave the picture, and some grow beyond the limit."""
    deltas = rounded(random.normal(size=(16, 4)) * 2)
    deltas[0, 2], deltas[1, 3] = 99, -99
    cases = []
    for clip, means in ((True, [0., 0., 0., 0.]), (False, [.1, -.2, .3, -.4])):
        settings = dict(size=[40, 56], levels=LEVELS, means=means, stds=[.1, .1, .2, .2], clip=clip)
        cases.append(dict(deltas=flat(deltas), decode=settings,
                          expected=flat(reference.decode(deltas, settings))))
    return cases


def detections_cases(random: np.random.Generator) -> List[Case]:
    """Overlapping boxes; two have the same score, and the first one wins."""
    low = random.uniform(0, 25, (16, 2))
    boxes = rounded(np.concatenate([low, low + random.uniform(5, 30, (16, 2))], 1))
    scores = rounded(random.uniform(0, .5, (16, CLASSES)))
    scores[5, 1] = scores[7, 1] = .75
    cases = []
    for change in (dict(), dict(nms_pre=5), dict(max_per_img=4), dict(min_bbox_size=15),
                   dict(iou_threshold=.1), dict(score_thr=.4), dict(score_thr=.9)):
        thresholds = {**THRESHOLDS, **change}
        found, score, label = reference.detections(scores, boxes, LEVELS, thresholds)
        cases.append(dict(
            scores=flat(scores), boxes=flat(boxes), levels=LEVELS, thresholds=thresholds,
            expected=dict(boxes=flat(found), scores=flat(score), labels=flat(label))))
    return cases


def label_map_cases(random: np.random.Generator) -> List[Case]:
    """Several classes, resized both ways, and one channel with a threshold."""
    cases = []
    for shape, align_corners, threshold in (
            ((4, 3, 4), False, None), ((4, 3, 4), True, None), ((1, 3, 4), False, .3)):
        logits = rounded(random.normal(size=shape) * 2)
        labels = reference.label_map(logits, (7, 9), align_corners, threshold)
        cases.append(dict(
            logits=flat(logits), shape=list(shape), size=[7, 9],
            decode=dict(align_corners=align_corners, threshold=threshold), expected=flat(labels)))
    return cases


def rounded(values: np.ndarray) -> np.ndarray:
    """Values with few digits, which keep the file small."""
    return values.round(3).astype(np.float32)


def flat(values: np.ndarray) -> List[Any]:
    """A flat list for JSON; seven digits are enough for the tests' tolerances."""
    return [float(f'{value:.7g}') if values.dtype.kind == 'f' else int(value)
            for value in values.ravel()]


def info() -> Case:
    """The NAME.json of a detector exported for LiteRT."""
    return dict(
        format=2, backend='litert', task='detection', shape=[1, 3, 40, 56], dynamic=[], half=False,
        precision='f32', input=dict(
            tensor='image', layout='NHWC', dtype='float32', channels='BGR', normalization='graph',
            mean=[0., 0., 0.], std=[1., 1., 1.]),
        resize=dict(size=[56, 40], keep_ratio=False, interpolation='bilinear', padding=None,
                    others=[]),
        outputs=[dict(name='scores', tensor='scores', axes=['N', 'P', 'C'], meaning=''),
                 dict(name='boxes', tensor='boxes', axes=['N', 'P', 4], meaning='')],
        postprocess=['nms'], classes=['circle', 'square', 'ring'],
        palette=[[220, 20, 60], [119, 11, 32], [0, 0, 142]], thresholds=THRESHOLDS,
        decode=dict(size=[40, 56], levels=LEVELS, means=[0., 0., 0., 0.], stds=[.1, .1, .2, .2],
                    clip=True), versions={})


def text() -> str:
    """The content of the file, one case per line."""
    groups = (f'"{name}": ' + (json.dumps(cases) if isinstance(cases, dict) else
              '[\n' + ',\n'.join(json.dumps(case) for case in cases) + '\n]')
              for name, cases in make().items())
    return '{\n' + ',\n'.join(groups) + '\n}\n'


if __name__ == '__main__':
    VECTORS.write_text(text(), encoding='utf-8')
    print(VECTORS)
