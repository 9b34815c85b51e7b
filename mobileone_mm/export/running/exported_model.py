"""Use an exported file in place of its PyTorch model."""

from importlib import import_module
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from ...utils.libraries import TASKS, class_names
from ..errors import ExportError
from ..formats import FORMATS
from ..graphs.models import Normalize
from ..interface import Interface
from .prediction_maps import prediction_maps
from .runtimes import Runtime, load_runtime

Detections = Tuple[np.ndarray, np.ndarray, np.ndarray]


class ExportedModel(BaseModel):
    """A model that a Runner or an evaluator can test like the PyTorch model.

    Images run one at a time, without padding, like batches of one.

    Args:
        runtime: The loaded file.
        interface: Its interface.
        preprocessor: The PyTorch model's data preprocessor, for files that do not normalize.
    """

    def __init__(self, runtime: Runtime, interface: Interface, preprocessor: nn.Module) -> None:
        super().__init__()
        self.runtime, self.interface = runtime, interface
        self.normalize = (Normalize(preprocessor) if interface.normalized else
                          UnitRange() if interface.form else nn.Identity())
        # Backends whose files leave work to the caller have a function postprocess().
        module = import_module(f'..backends.{FORMATS[interface.backend].module}', __package__)
        self.postprocess: Callable[..., Any] = getattr(module, 'postprocess', read_outputs)

    @classmethod
    def load(cls, path: Union[str, Path], preprocessor: nn.Module,
             threads: Optional[int] = None) -> 'ExportedModel':
        """Load an exported file and the interface next to it.

        Raises:
            ExportError: No runtime here can run the file, or it cannot be read.
        """
        interface = Interface.read(path)
        backend = FORMATS[interface.backend]
        if not backend.runtime:
            raise ExportError(f'{backend.name} cannot be run here: evaluate {path} on a machine '
                              'with its runtime')
        return cls(load_runtime(backend.runtime, path, threads), interface, preprocessor)

    @classmethod
    def stand_in(cls, path: Union[str, Path], cfg: Config, preprocessor: nn.Module
                 ) -> 'ExportedModel':
        """Load an exported file to test it with a config.

        Raises:
            ExportError: See :meth:`load`; or the config is for another task or other classes.
        """
        exported = cls.load(path, preprocessor)
        own, task = exported.interface, TASKS.get(cfg.get('default_scope'))
        if own.task != task:
            raise ExportError(f'{path} is for {own.task}, the config for {task}')
        classes = class_names(cfg.test_dataloader.dataset)
        if classes and own.classes and classes != own.classes:
            raise ExportError(f'{path} has the classes {own.classes}, the config {classes}')
        return exported

    def run(self, image: Tensor) -> List[np.ndarray]:
        """The raw outputs for images (N, 3, H, W), BGR, 0 to 255, float32.

        Raises:
            ExportError: The file was exported for another size or number of images.
        """
        for axis, kind in enumerate(('batch', 'channels', 'size', 'size')):
            fixed = kind not in self.interface.dynamic
            if fixed and image.shape[axis] != self.interface.shape[axis]:
                advice = (f'--dynamic {kind}' if kind in FORMATS[self.interface.backend].dynamic
                          else 'a picture of that size, which this backend fixes')
                raise ExportError(
                    f'the input is {tuple(image.shape)}, but the file was exported for '
                    f'{tuple(self.interface.shape)}: export again with {advice}')
        with torch.no_grad():
            return self.runtime(self.normalize(image).numpy())

    def prediction_maps(self, image: Tensor) -> List[np.ndarray]:
        """The outputs of its last convolutions, see :func:`.prediction_maps.prediction_maps`.

        Args:
            image: (1, 3, H, W), see :meth:`run`.
        """
        with torch.no_grad():
            return prediction_maps(self.runtime, self.normalize(self._batch_of(image)).numpy())

    def test_step(self, data: dict) -> List[Any]:
        """Add predictions to the data samples of a batch.

        Args:
            data: 'inputs', a list of uint8 images (3, H, W), and 'data_samples', from the config's
                data loader.
        """
        return [self._predict(image[None].float(), sample)
                for image, sample in zip(data['inputs'], data['data_samples'])]

    val_step = test_step

    def forward(self, inputs: Tensor, data_samples: Optional[list] = None,
                mode: str = 'tensor') -> Any:
        """See :meth:`run`."""
        return self.run(inputs)

    def _batch_of(self, image: Tensor) -> Tensor:
        """Repeat an image (1, 3, H, W) to fill a fixed batch."""
        fixed = 'batch' not in self.interface.dynamic
        return image.expand(self.interface.shape[0], -1, -1, -1) if fixed else image

    def _predict(self, image: Tensor, sample: Any) -> Any:
        return self.answer(self.run(self._batch_of(image)), sample)

    def answer(self, outputs: Sequence[np.ndarray], sample: Any) -> Any:
        """Add the predictions from raw outputs to an image's data sample."""
        result = self.postprocess(outputs, self.interface, tuple(sample.img_shape[:2]))
        if self.interface.task == 'detection':
            boxes, scores, labels = result
            sample.pred_instances = _instances(boxes, scores, labels, sample.scale_factor)
            _unpack_boxes(sample)
        else:
            sample.pred_sem_seg = PixelData(data=_at_size(result, sample.ori_shape))
        return sample


class UnitRange(nn.Module):
    """Convert BGR, 0 to 255, to RGB, 0 to 1."""

    def forward(self, image: Tensor) -> Tensor:
        """Convert images (N, 3, H, W)."""
        return image.flip(1) / 255


def is_exported(path: Union[str, Path]) -> bool:
    """Whether a path has the suffix of an exported model."""
    return Path(path).suffix in {backend.suffix for backend in FORMATS.values()}


def read_outputs(outputs: Sequence[np.ndarray], interface: Interface,
                 size: Tuple[int, int]) -> Union[Detections, np.ndarray]:
    """The first image's prediction from the outputs of an end-to-end graph.

    Args:
        outputs: The outputs of :meth:`ExportedModel.run`.
        interface: The file's interface.
        size: Height and width of the input.

    Returns:
        Boxes (K, 4) in pixels of the input, scores (K, ) and labels (K, ), or the label map
        (H, W).
    """
    named = dict(zip(interface.output_names, outputs))
    if interface.task == 'segmentation':
        return next(iter(named.values()))[0].reshape(size)
    if 'dets' in named:  # mmdeploy's form
        boxes, scores = named['dets'][0, :, :4], named['dets'][0, :, 4]
    else:
        boxes, scores = named['boxes'][0], named['scores'][0]
    found = scores > 0
    return boxes[found], scores[found], named['labels'][0][found]


def _instances(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray,
               scale_factor: Tuple[float, float]) -> InstanceData:
    """Boxes in pixels of the original image."""
    scale = torch.tensor([*scale_factor, *scale_factor], dtype=torch.float32)
    return InstanceData(bboxes=torch.as_tensor(boxes).float() / scale,
                        scores=torch.as_tensor(scores).float(),
                        labels=torch.as_tensor(labels).long())


def _unpack_boxes(sample: Any) -> None:
    """Turn annotated boxes into plain tensors for the visualizer, like mmdet's preprocessor."""
    for name in ('gt_instances', 'ignored_instances'):
        instances: Any = getattr(sample, name, None)
        boxes: Any = getattr(instances, 'bboxes', None)
        if hasattr(boxes, 'tensor'):
            instances.bboxes = boxes.tensor


def _at_size(labels: np.ndarray, size: Tuple[int, int]) -> Tensor:
    """Resize labels to a map (1, H, W) at the original image's size, with nearest neighbors."""
    maps = torch.as_tensor(labels).long()[None]
    if maps.shape[-2:] == tuple(size[:2]):
        return maps
    return F.interpolate(maps[None].float(), tuple(size[:2]), mode='nearest')[0].long()
