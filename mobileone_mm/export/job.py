"""What every exporter gets: a folded model, an image as the network sees it, and the options."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple, Union

from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import Tensor, nn

from ..fileio import atomic_path
from .errors import ExportError

TASKS = dict(mmdet='detection', mmseg='segmentation')


@dataclass
class ExportJob:
    """One export.

    Attributes:
        backend: A key of ``FORMATS``.
        task: 'detection' or 'segmentation'.
        model: The folded model, in eval mode on the CPU. Exporters may change it.
        cfg: The config that builds the folded model.
        weights: Its folded checkpoint, for exporters that build the model themselves.
        image: (N, 3, H, W), float32, BGR, 0 to 255, resized as the test pipeline does.
        out: Path of the file to write; its directory exists.
        half: Export in float16.
        dynamic: Axes to keep open, of :data:`mobileone_mm.export.formats.DYNAMIC`.
        classes: Names of the classes.
        source: Path of the picture that ``image`` is.
    """

    backend: str
    task: str
    model: nn.Module
    cfg: Config
    weights: Path
    image: Tensor
    out: Path
    half: bool = False
    dynamic: Sequence[str] = ()
    classes: Sequence[str] = ()
    source: str = ''

    def single_image(self) -> Tensor:
        """``image``, for formats that have no batches.

        Raises:
            ExportError: It is a batch of several.
        """
        if len(self.image) != 1:
            raise ExportError(f'{self.backend} takes one image at a time: export with batch size '
                              f'1, not {len(self.image)}')
        return self.image

    def dynamic_axes(self, input_name: str, outputs: Dict[str, Sequence[int]]
                     ) -> Dict[str, Dict[int, str]]:
        """The ``dynamic_axes`` of ``torch.onnx.export``.

        Args:
            input_name: Of the image.
            outputs: Which axes of each output are height and width; may be none.
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


@dataclass
class Interface:
    """What a file of weights does not tell about itself; lies beside it as NAME.json.

    Attributes:
        backend: A key of ``FORMATS``.
        task: 'detection' or 'segmentation'.
        normalized: Whether the caller normalizes as the config's data preprocessor does. If not,
            the input is BGR, 0 to 255.
        shape: (N, 3, H, W) of the input that was traced.
        dynamic: The open axes.
        half: Whether it computes in float16.
        outputs: Names of the outputs.
        classes: Names of the classes.
        decode: What the caller has to do with raw outputs; see the backend's module.
    """

    backend: str
    task: str
    normalized: bool
    shape: Tuple[int, int, int, int]
    dynamic: List[str]
    half: bool
    outputs: List[str]
    classes: List[str]
    decode: Dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, job: ExportJob, outputs: Sequence[str], normalized: bool = False,
           **decode: Any) -> 'Interface':
        """The interface of a job's export."""
        return cls(job.backend, job.task, normalized, tuple(job.image.shape), list(job.dynamic),
                   job.half, list(outputs), list(job.classes), decode)

    def write(self, exported: Union[str, Path]) -> None:
        """Write it beside an exported file."""
        with atomic_path(Path(exported).with_suffix('.json')) as path:
            path.write_text(json.dumps(asdict(self), indent=2) + '\n', encoding='utf-8')

    @classmethod
    def read(cls, exported: Union[str, Path]) -> 'Interface':
        """Read it from beside an exported file.

        Raises:
            ExportError: There is none, or it is none of ours.
        """
        path = Path(exported).with_suffix('.json')
        try:
            fields = json.loads(path.read_text(encoding='utf-8'))
            return cls(**{**fields, 'shape': tuple(fields['shape'])})
        except FileNotFoundError:
            raise ExportError(f'{path} is missing: keep the .json that tools/deploy.py wrote '
                              f'beside {Path(exported).name}') from None
        except (KeyError, TypeError, ValueError) as error:
            raise ExportError(f'{path} does not describe an exported model: {error}') from error


def class_names(dataset: Any) -> List[str]:
    """Names of the classes in a data set's config, or else of its type; may be none."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        with DATASETS.switch_scope_and_registry(None) as registry:  # the config's library's
            kind = registry.get(dataset['type'])
        classes = getattr(kind, 'METAINFO', {}).get('classes', ())
    return [classes] if isinstance(classes, str) else list(classes)
