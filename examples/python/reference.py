"""Pre- and post-processing for exported networks in NumPy: the reference for ports.

It only needs NAME.json; docs/deploy.md lists the keys. Shapes: P anchors over all levels, A of them
per cell, C classes, M pairs of anchor and class, K boxes. Boxes are x1, y1, x2, y2. The ports,
android/Postprocess.kt and ios/Postprocess.swift, use the same function names;
fixtures/vectors.json checks that they give the same results.
"""

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

Info = Dict[str, Any]
Detections = Tuple[np.ndarray, np.ndarray, np.ndarray]

MAX_LOG_RATIO = 4.135166556742356  # log(1000 / 16): the limit of a box's size over its anchor's
INTERPOLATIONS = dict(nearest=cv2.INTER_NEAREST, bilinear=cv2.INTER_LINEAR,
                      bicubic=cv2.INTER_CUBIC, area=cv2.INTER_AREA, lanczos=cv2.INTER_LANCZOS4)


def read(model: Union[str, Path]) -> Info:
    """Read the NAME.json next to a model file."""
    info: Info = json.loads(Path(model).with_suffix('.json').read_text(encoding='utf-8'))
    if info['format'] != 2:
        raise ValueError(f"{model}: its .json has format {info['format']}, this reads format 2")
    return info


def preprocess(picture: np.ndarray, info: Info) -> np.ndarray:
    """The network's input, float32, in its layout: NCHW, NHWC, or CHW without a batch axis.

    Args:
        picture: (h, w, 3), uint8, BGR, as cv2.imread returns it.
        info: NAME.json.
    """
    size = input_size(picture.shape[1], picture.shape[0], info)
    if size != (picture.shape[1], picture.shape[0]):
        method = INTERPOLATIONS[info['resize']['interpolation'] or 'bilinear']
        picture = cv2.resize(picture, size, interpolation=method)
    image = normalize(picture[..., ::-1], info['input'])
    return image if info['input']['layout'] == 'CHW' else image[None]


def input_size(width: int, height: int, info: Info) -> Tuple[int, int]:
    """The width and height to resize a picture to."""
    if 'size' not in info['dynamic']:
        return info['shape'][3], info['shape'][2]
    size = info['resize']['size']
    if not size:
        return width, height
    if not info['resize']['keep_ratio']:
        return size[0], size[1]
    scale = min(max(size) / max(width, height), min(size) / min(width, height))
    return int(width * scale + .5), int(height * scale + .5)


def normalize(rgb: np.ndarray, settings: Info) -> np.ndarray:
    """Pixels (H, W, 3) in the channel order, scale and layout of ``input``, without its batch axis.

    The result is float32.
    """
    pixels = rgb if settings['channels'] == 'RGB' else rgb[..., ::-1]
    scaled = (pixels - np.array(settings['mean'])) / np.array(settings['std'])
    axes = (0, 1, 2) if settings['layout'] == 'NHWC' else (2, 0, 1)
    return np.ascontiguousarray(scaled.transpose(axes), np.float32)


def postprocess(outputs: Sequence[np.ndarray], info: Info, picture_size: Tuple[int, int]
                ) -> Union[Detections, np.ndarray]:
    """Turn the network's outputs into the prediction for a picture.

    Args:
        outputs: One image's outputs, in the order of ``outputs`` in NAME.json.
        info: NAME.json.
        picture_size: Height and width of the picture.

    Returns:
        Boxes (K, 4) in pixels of the picture, scores (K, ) and labels (K, ), best first; or the
        label map (height, width).
    """
    size = input_size(picture_size[1], picture_size[0], info)
    named = {output['name']: array if output['axes'][0] != 'N' else array[0]
             for output, array in zip(info['outputs'], outputs)}
    if info['task'] == 'segmentation':
        if 'label_map' in info['postprocess']:
            labels = label_map(named['logits'], (size[1], size[0]), **info['decode'])
        else:
            labels = named['output'][0] if 'output' in named else named['labels']
        return enlarge(labels, picture_size)
    boxes, scores, labels = found_boxes(named, info)
    scale = np.array([picture_size[1] / size[0], picture_size[0] / size[1]] * 2, np.float32)
    return boxes * scale, scores, labels


def found_boxes(named: Dict[str, np.ndarray], info: Info) -> Detections:
    """Boxes in pixels of the input, scores and labels, from the outputs by name."""
    if 'decode' in info['postprocess']:
        named['boxes'] = decode(named['deltas'], info['decode'])
    if 'nms' in info['postprocess']:
        if named['scores'].ndim == 1:  # only each anchor's best class
            best = named['labels'].astype(int)[:, None] == np.arange(len(info['classes']))
            named['scores'] = best * named['scores'][:, None]
        return detections(named['scores'], named['boxes'], info['decode']['levels'],
                          info['thresholds'])
    if 'dets' in named:  # mmdeploy's form
        named.update(boxes=named['dets'][:, :4], scores=named['dets'][:, 4])
    found = named['scores'] > 0
    return named['boxes'][found], named['scores'][found], named['labels'][found].astype(int)


def decode(deltas: np.ndarray, settings: Info) -> np.ndarray:
    """Boxes (P, 4) from deltas (P, 4): centers shift by anchor sizes, sizes scale by exp."""
    priors = anchors(settings['levels'])
    deltas = (deltas * np.array(settings['stds'], np.float32)
              + np.array(settings['means'], np.float32))
    centers, sizes = (priors[:, :2] + priors[:, 2:]) / 2, priors[:, 2:] - priors[:, :2]
    centers = centers + sizes * deltas[:, :2]
    halves = sizes * np.exp(deltas[:, 2:].clip(-MAX_LOG_RATIO, MAX_LOG_RATIO)) / 2
    boxes = np.concatenate([centers - halves, centers + halves], 1)
    height, width = settings['size']
    return boxes.clip(0, [width, height, width, height]) if settings['clip'] else boxes


def anchors(levels: Sequence[Info]) -> np.ndarray:
    """The anchors (P, 4): level by level, row by row, cell by cell."""
    rows = [[x * level['stride'][0] + box[0], y * level['stride'][1] + box[1],
             x * level['stride'][0] + box[2], y * level['stride'][1] + box[3]]
            for level in levels
            for y in range(level['size'][0]) for x in range(level['size'][1])
            for box in level['anchors']]
    return np.array(rows, np.float32)


def detections(scores: np.ndarray, boxes: np.ndarray, levels: Sequence[Info], thresholds: Info
               ) -> Detections:
    """The boxes that mmdet would keep, best first.

    Args:
        scores: (P, C), probabilities.
        boxes: (P, 4).
        levels: ``decode.levels`` in NAME.json.
        thresholds: ``thresholds`` in NAME.json.

    Returns:
        Boxes (K, 4), scores (K, ) and labels (K, ).
    """
    anchor, label = candidates(scores, levels, thresholds)
    boxes, scores = boxes[anchor], scores[anchor, label]
    large = (boxes[:, 2:] - boxes[:, :2] > thresholds['min_bbox_size']).all(1)
    boxes, scores, label = boxes[large], scores[large], label[large]
    keep = nms(boxes, scores, label, thresholds['iou_threshold'], thresholds['max_per_img'])
    return boxes[keep], scores[keep], label[keep]


def candidates(scores: np.ndarray, levels: Sequence[Info], thresholds: Info
               ) -> Tuple[np.ndarray, np.ndarray]:
    """Anchors (M, ) and labels (M, ) above score_thr: the best nms_pre pairs of each level."""
    limit = None if thresholds['nms_pre'] < 0 else thresholds['nms_pre']
    pairs: List[np.ndarray] = []
    start = 0
    for level in levels:
        end = start + level['size'][0] * level['size'][1] * len(level['anchors'])
        found = np.argwhere(scores[start:end] > thresholds['score_thr']) + [start, 0]
        order = np.argsort(-scores[found[:, 0], found[:, 1]], kind='stable')
        pairs.append(found[order[:limit]])
        start = end
    anchor, label = np.concatenate(pairs).T
    return anchor, label


def nms(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, iou_threshold: float,
        limit: int) -> np.ndarray:
    """Indices (K, ) of the boxes that greedy non-maximum suppression per class keeps."""
    order = np.argsort(-scores, kind='stable')
    keep: List[int] = []
    while order.size and len(keep) < limit:
        best, rest = order[0], order[1:]
        keep.append(best)
        apart = iou(boxes[best], boxes[rest]) <= iou_threshold
        order = rest[apart | (labels[rest] != labels[best])]
    return np.array(keep, int)


def iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union (M, ) of a box (4, ) and others (M, 4)."""
    shared = (np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])).clip(0)
    intersection = shared.prod(1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - intersection
    return intersection / np.maximum(union, np.finfo(np.float32).tiny)


def label_map(logits: np.ndarray, size: Tuple[int, int], align_corners: bool,
              threshold: Optional[float]) -> np.ndarray:
    """The best class of each pixel, after bilinear upsampling of the logits.

    Args:
        logits: (C, h, w).
        size: Height H and width W of the result.
        align_corners: See torch.nn.functional.interpolate.
        threshold: For one channel: a pixel with a higher probability is of class 1.

    Returns:
        Labels (H, W).
    """
    rows = interpolation(logits.shape[1], size[0], align_corners)
    columns = interpolation(logits.shape[2], size[1], align_corners)
    enlarged = rows @ logits @ columns.T
    if threshold is None:
        return enlarged.argmax(0)
    return (1 / (1 + np.exp(-enlarged[0])) > threshold).astype(int)


def interpolation(source: int, target: int, align_corners: bool) -> np.ndarray:
    """The matrix (target, source) that interpolates linearly along one axis."""
    pixels = np.arange(target)
    if align_corners:
        position = pixels * ((source - 1) / max(target - 1, 1))
    else:
        position = (pixels + .5) * (source / target) - .5
    position = position.clip(0, source - 1)
    low = np.floor(position).astype(int)
    matrix = np.zeros((target, source), np.float32)
    matrix[pixels, low] = 1 - (position - low)
    matrix[pixels, np.minimum(low + 1, source - 1)] += position - low
    return matrix


def enlarge(labels: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Resize a label map to a height and width, with nearest-neighbor interpolation."""
    rows = np.arange(size[0]) * labels.shape[0] // size[0]
    columns = np.arange(size[1]) * labels.shape[1] // size[1]
    return labels[rows[:, None], columns]


def show(answer: Union[Detections, np.ndarray], info: Info, least: float = .3) -> None:
    """Print the boxes with a score of at least ``least``, or the number of pixels per class."""
    if isinstance(answer, tuple):
        for box, score, label in zip(*answer):
            if score >= least:
                corners = ' '.join(f'{value:.1f}' for value in box)
                print(f'{info["classes"][label]} {score:.3f} at {corners}')
    else:
        for label, count in zip(*np.unique(answer, return_counts=True)):
            print(f'{info["classes"][label]} {count:,} pixels')
