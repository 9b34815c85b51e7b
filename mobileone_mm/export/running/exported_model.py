"""An exported file in the place of the model that it came from."""

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
    """What a Runner or an evaluator can test like the PyTorch model.

    Images are run one by one, unpadded, as the model sees them in a batch of one.

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
        # A backend whose file leaves work to the caller has a function postprocess().
        module = import_module(f'..backends.{FORMATS[interface.backend].module}', __package__)
        self.postprocess: Callable[..., Any] = getattr(module, 'postprocess', read_outputs)

    @classmethod
    def load(cls, path: Union[str, Path], preprocessor: nn.Module,
             threads: Optional[int] = None) -> 'ExportedModel':
        """Load an exported file with the interface beside it.

        Raises:
            ExportError: Nothing here runs such a file, or it cannot be read.
        """
        interface = Interface.read(path)
        backend = FORMATS[interface.backend]
        if not backend.runtime:
            raise ExportError(f'{backend.name} cannot be run here: evaluate {path} where its '
                              'runtime is')
        return cls(load_runtime(backend.runtime, path, threads), interface, preprocessor)

    @classmethod
    def stand_in(cls, path: Union[str, Path], cfg: Config, preprocessor: nn.Module
                 ) -> 'ExportedModel':
        """Load an exported file to be tested with a config.

        Raises:
            ExportError: As :meth:`load`; or the config is for another task or other classes.
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
        """Its last convolutions' outputs, see :func:`.prediction_maps.prediction_maps`.

        Args:
            image: (1, 3, H, W), as :meth:`run` takes it.
        """
        with torch.no_grad():
            return prediction_maps(self.runtime, self.normalize(self._batch_of(image)).numpy())

    def test_step(self, data: dict) -> List[Any]:
        """The data samples of a batch, with the predictions added.

        Args:
            data: 'inputs', a list of uint8 images (3, H, W), and 'data_samples', as the data
                loader of the config gives them.
        """
        return [self._predict(image[None].float(), sample)
                for image, sample in zip(data['inputs'], data['data_samples'])]

    val_step = test_step

    def forward(self, inputs: Tensor, data_samples: Optional[list] = None,
                mode: str = 'tensor') -> Any:
        """See :meth:`run`."""
        return self.run(inputs)

    def _batch_of(self, image: Tensor) -> Tensor:
        """As many copies of an image (1, 3, H, W) as a fixed batch takes."""
        fixed = 'batch' not in self.interface.dynamic
        return image.expand(self.interface.shape[0], -1, -1, -1) if fixed else image

    def _predict(self, image: Tensor, sample: Any) -> Any:
        return self.answer(self.run(self._batch_of(image)), sample)

    def answer(self, outputs: Sequence[np.ndarray], sample: Any) -> Any:
        """A data sample with the predictions that raw outputs make for its image."""
        result = self.postprocess(outputs, self.interface, tuple(sample.img_shape[:2]))
        if self.interface.task == 'detection':
            boxes, scores, labels = result
            sample.pred_instances = _instances(boxes, scores, labels, sample.scale_factor)
            _unpack_boxes(sample)
        else:
            sample.pred_sem_seg = PixelData(data=_at_size(result, sample.ori_shape))
        return sample


class UnitRange(nn.Module):
    """BGR, 0 to 255, to RGB, 0 to 1."""

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) of either."""
        return image.flip(1) / 255


def is_exported(path: Union[str, Path]) -> bool:
    """Whether a path is named like an exported model, not like a checkpoint."""
    return Path(path).suffix in {backend.suffix for backend in FORMATS.values()}


def read_outputs(outputs: Sequence[np.ndarray], interface: Interface,
                 size: Tuple[int, int]) -> Union[Detections, np.ndarray]:
    """The first image's answer from the outputs of an end-to-end graph.

    Args:
        outputs: As :meth:`ExportedModel.run` returns them.
        interface: Of the file.
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
    """Annotated boxes as plain tensors, as mmdet's preprocessor gives them to its visualizer."""
    for name in ('gt_instances', 'ignored_instances'):
        instances: Any = getattr(sample, name, None)
        boxes: Any = getattr(instances, 'bboxes', None)
        if hasattr(boxes, 'tensor'):
            instances.bboxes = boxes.tensor


def _at_size(labels: np.ndarray, size: Tuple[int, int]) -> Tensor:
    """A label map (1, H, W) at the original image's size, by the nearest label."""
    maps = torch.as_tensor(labels).long()[None]
    if maps.shape[-2:] == tuple(size[:2]):
        return maps
    return F.interpolate(maps[None].float(), tuple(size[:2]), mode='nearest')[0].long()
