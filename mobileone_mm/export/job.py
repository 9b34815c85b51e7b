"""The input of every exporter: a folded model, an example image and the options."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Sequence

from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor

from .errors import ExportError


@dataclass
class ExportJob:
    """One export.

    Attributes:
        backend: A key of ``FORMATS``.
        task: 'detection' or 'segmentation'.
        model: The folded model, in eval mode on the CPU. Exporters may change it.
        cfg: The config that builds the folded model.
        weights: Its folded checkpoint, for exporters that build the model themselves.
        image: (N, 3, H, W), float32, BGR, 0 to 255, resized by the test pipeline.
        out: Path of the file to write; its directory exists.
        half: Export in float16.
        dynamic: Axes to leave open, from :data:`mobileone_mm.export.formats.DYNAMIC`.
        classes: Names of the classes.
        source: Path of the picture in ``image``.
        form: Form of a detector's outputs, one of :data:`mobileone_mm.export.formats.FORMS`.
    """

    backend: str
    task: str
    model: BaseModel
    cfg: Config
    weights: Path
    image: Tensor
    out: Path
    half: bool = False
    dynamic: Sequence[str] = ()
    classes: Sequence[str] = ()
    source: str = ''
    form: str = ''

    def single_image(self) -> Tensor:
        """``image``, for formats without batches.

        Raises:
            ExportError: It is a batch of several images.
        """
        if len(self.image) != 1:
            raise ExportError(f'{self.backend} takes one image at a time: export with batch size '
                              f'1, not {len(self.image)}')
        return self.image

    def dynamic_axes(self, input_name: str, outputs: Dict[str, Sequence[int]]
                     ) -> Dict[str, Dict[int, str]]:
        """The ``dynamic_axes`` of ``torch.onnx.export``.

        Args:
            input_name: Name of the image input.
            outputs: The axes of each output that are height and width; may be empty.
        """
        axes: Dict[str, Dict[int, str]] = {name: {} for name in (input_name, *outputs)}
        if 'batch' in self.dynamic:
            for of_tensor in axes.values():
                of_tensor[0] = 'batch'
        if 'size' in self.dynamic:
            axes[input_name].update({2: 'height', 3: 'width'})
            for name, spatial in outputs.items():
                axes[name].update(zip(spatial, ('height', 'width')))
        return axes
