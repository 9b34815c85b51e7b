"""Describe an exported file to apps, for the .json file next to it."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Dict, List, Optional, Sequence, Tuple

from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor

from ..version import __version__
from .formats import FORMATS
from .graphs.models import Normalize
from .samples import pipeline_kind

LAYOUTS = ('NCHW', 'NHWC', 'CHW', 'image')
"""Layouts of a runtime's input: with or without a batch axis, or a picture."""

STEPS = ('decode', 'nms', 'label_map')
"""Steps after the network that may be left to the app; see docs/deploy.md."""

_LEAVES_PIXELS = ('LoadImageFromFile', 'LoadAnnotations', 'PackDetInputs', 'PackSegInputs')

# N images, K boxes found, P anchors, C classes; a graph for a single image has no N.
_RAW = {
    'scores': (('N', 'P', 'C'), 'probability of each class, for each anchor'),
    'boxes': (('N', 'P', 4), 'x1, y1, x2, y2 in pixels of the input, for each anchor'),
    'deltas': (('N', 'P', 4), 'dx, dy, dw, dh of each anchor'),
}
_DETECTIONS = {
    'boxes': (('N', 'K', 4), 'x1, y1, x2, y2 in pixels of the input, best first'),
    'scores': (('N', 'K'), 'probability; 0: no more boxes'),
    'labels': (('N', 'K'), 'index into classes; -1: no more boxes'),
    'dets': (('N', 'K', 5), 'x1, y1, x2, y2 in pixels of the input, and the probability; '
             '0: no more boxes'),
    'confidence': (('K', 'C'), 'probability of each class'),
    'coordinates': (('K', 4), 'center x, center y, width, height, from 0 to 1'),
}
_BEST_CLASSES = {
    'boxes': (('P', 4), 'x1, y1, x2, y2 in pixels of the input, for each anchor'),
    'scores': (('P', ), 'probability of the best class, for each anchor'),
    'labels': (('P', ), 'index into classes, as a float, for each anchor'),
}
_LABEL_MAPS = {
    'labels': (('N', 'H', 'W'), 'index into classes, of each pixel of the input'),
    'output': (('N', 1, 'H', 'W'), 'index into classes, of each pixel of the input'),
    'logits': (('N', 'C', 'h', 'w'), "before softmax, at the head's stride"),
}


def describe_input(preprocessor: ImgDataPreprocessor, normalized: bool, tensor: Optional[str],
                   layout: str, form: str = '') -> Dict[str, Any]:
    """Describe the tensor that an app fills: x = (pixel - mean) / std for each channel.

    Args:
        preprocessor: The model's data preprocessor.
        normalized: Whether the app normalizes; otherwise the graph does.
        tensor: Its name in the runtime; ``None`` if it has no name.
        layout: One of :data:`LAYOUTS`.
        form: One of :data:`.formats.FORMS`, which take RGB, 0 to 1.
    """
    normalize = Normalize(preprocessor)
    app = normalized and normalize.enabled
    # Core ML converts pictures to the channel order that the network was trained with.
    swapped = form or normalize.swap and (normalized or layout == 'image')
    return dict(
        tensor=tensor, layout=layout, dtype='uint8' if layout == 'image' else 'float32',
        channels='RGB' if swapped else 'BGR', normalization='app' if normalized else 'graph',
        mean=normalize.mean.flatten().tolist() if app else [0.] * 3,
        std=normalize.std.flatten().tolist() if app else [255. if form else 1.] * 3)


def describe_resize(cfg: Config) -> Dict[str, Any]:
    """Describe how a config's test pipeline resizes a picture for the network.

    Returns:
        ``size`` (width, height; empty if none is set), ``keep_ratio``, ``interpolation``,
        ``padding`` (the arguments of a ``Pad``, or ``None``) and ``others``, the names of other
        transforms.
    """
    transforms = [(pipeline_kind(transform), transform)
                  for transform in cfg.test_dataloader.dataset.pipeline]
    found: Dict[str, Any] = dict(size=[], keep_ratio=True, interpolation='', padding=None,
                                 others=[])
    for kind, transform in transforms:
        if kind == 'Resize' and transform.get('scale'):
            scale = transform['scale']
            found.update(size=[scale] * 2 if isinstance(scale, int) else list(scale),
                         keep_ratio=bool(transform.get('keep_ratio', False)),
                         interpolation=transform.get('interpolation', 'bilinear'))
        elif kind == 'Pad':
            found['padding'] = {key: value for key, value in transform.items() if key != 'type'}
        elif kind not in _LEAVES_PIXELS:
            found['others'].append(kind)
    return found


def describe_outputs(task: str, names: Sequence[str], tensors: Sequence[Optional[str]],
                     layout: str, form: str = '') -> List[Dict[str, Any]]:
    """Describe the name, tensor, axes and meaning of each output, in the runtime's order.

    Args:
        task: 'detection' or 'segmentation'.
        names: Our names of the outputs.
        tensors: Their names in the runtime; ``None`` for an output without a name.
        layout: Layout of the input.
        form: One of :data:`.formats.FORMS`.
    """
    meanings: Dict[str, Tuple[Tuple[Any, ...], str]] = (
        _LABEL_MAPS if task == 'segmentation' else _BEST_CLASSES if form else
        _RAW if left_to_the_app(task, names) else _DETECTIONS)
    return [dict(name=name, tensor=tensor,
                 axes=[axis for axis in meanings[name][0] if axis != 'N' or layout[0] == 'N'],
                 meaning=meanings[name][1]) for name, tensor in zip(names, tensors)]


def left_to_the_app(task: str, names: Sequence[str], form: str = '') -> List[str]:
    """The :data:`STEPS` that remain to be done on outputs with these names."""
    if task == 'segmentation':
        return [] if {'labels', 'output'} & set(names) else ['label_map']
    if 'deltas' in names:
        return ['decode', 'nms']
    return ['nms'] if form or set(names) == {'scores', 'boxes'} else []


def describe_precision(backend: str, half: bool) -> str:
    """The precision in which the runtime gives the predictions that were compared.

    OpenVINO and ncnn store weights in float16, but their predictions were compared in float32.
    """
    return 'f16' if half and backend not in ('openvino', 'ncnn') else 'f32'


def versions(backend: str) -> Dict[str, str]:
    """The versions of this package, torch and the converter for a backend."""
    return dict(mobileone_mm=__version__,
                **package_versions(['torch', *FORMATS[backend].packages]))


def package_versions(packages: Sequence[str]) -> Dict[str, str]:
    """The versions of installed packages by name."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # installed under another name, such as onnxruntime-gpu
            found[package] = 'unknown'
    return found
