"""The JSON file next to an exported model."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from ..utils.fileio import atomic_path
from ..utils.libraries import TASKS, class_palette
from . import description
from .errors import ExportError
from .formats import FORMATS, FORMS
from .job import ExportJob
from .outside_the_graph.decode_settings import thresholds

FORMAT = 2
"""Version of the file format; it grows when a key changes its meaning."""


@dataclass
class Interface:
    """Everything about a model that its exported file leaves out; saved as NAME.json next to it.

    docs/deploy.md lists the keys for authors of apps.

    Attributes:
        backend: A key of ``FORMATS``.
        task: 'detection' or 'segmentation'.
        shape: (N, 3, H, W) of the traced input.
        dynamic: The open axes.
        half: Whether it was exported in float16.
        precision: 'f32' or 'f16': the precision in which the runtime has to compute.
        input: See :func:`.description.describe_input`.
        resize: See :func:`.description.describe_resize`.
        outputs: See :func:`.description.describe_outputs`.
        postprocess: The :data:`.description.STEPS` that are left to the caller.
        classes: Names of the classes.
        palette: Red, green and blue of each class.
        thresholds: A detector's thresholds; see :func:`.decode_settings.thresholds`.
        decode: Other settings of the steps left to the caller; see :mod:`.decode_settings`.
        versions: Versions of the packages that made the file.
        form: Form of a detector's outputs, one of :data:`.formats.FORMS`; empty for the backend's
            own.
        format: :data:`FORMAT`.
    """

    backend: str
    task: str
    shape: Tuple[int, int, int, int]
    dynamic: List[str]
    half: bool
    precision: str
    input: Dict[str, Any]
    resize: Dict[str, Any]
    outputs: List[Dict[str, Any]]
    postprocess: List[str]
    classes: List[str]
    palette: Sequence[Sequence[int]]
    thresholds: Dict[str, Any] = field(default_factory=dict)
    decode: Dict[str, Any] = field(default_factory=dict)
    versions: Dict[str, str] = field(default_factory=dict)
    form: str = ''
    format: int = FORMAT

    @classmethod
    def of(cls, job: ExportJob, outputs: Sequence[str], normalized: bool = False,
           input_tensor: Optional[str] = 'image',
           output_tensors: Optional[Sequence[Optional[str]]] = None,
           layout: str = 'NCHW', **decode: Any) -> 'Interface':
        """Make the interface of an export job.

        Args:
            job: The job.
            outputs: Our names of the outputs, in order.
            normalized: Whether the caller normalizes like the config's data preprocessor. If not,
                the input is a picture's pixels, 0 to 255.
            input_tensor: The input's name in the runtime; ``None`` if it has no name.
            output_tensors: The outputs' names in the runtime, if they differ from ``outputs``.
            layout: One of :data:`.description.LAYOUTS`.
            **decode: See the class.
        """
        batch, channels, height, width = job.image.shape
        detector = job.task == 'detection'
        return cls(
            backend=job.backend, task=job.task, shape=(batch, channels, height, width),
            dynamic=list(job.dynamic), half=job.half,
            precision=description.describe_precision(job.backend, job.half),
            input=description.describe_input(job.model.data_preprocessor, normalized, input_tensor,
                                             layout, job.form),
            resize=description.describe_resize(job.cfg),
            outputs=description.describe_outputs(job.task, outputs, output_tensors or outputs,
                                                 layout, job.form),
            postprocess=description.left_to_the_app(job.task, outputs, job.form),
            classes=list(job.classes),
            palette=class_palette(job.cfg.test_dataloader.dataset, len(job.classes)),
            thresholds=thresholds(job.model.test_cfg) if detector else {}, decode=decode,
            versions=description.versions(job.backend), form=job.form)

    @property
    def normalized(self) -> bool:
        """Whether the caller normalizes like the config's data preprocessor."""
        return bool(self.input['normalization'] == 'app')

    @property
    def output_names(self) -> List[str]:
        """Our names of the outputs, in order."""
        return [output['name'] for output in self.outputs]

    @property
    def settings(self) -> Dict[str, Any]:
        """The settings for :mod:`.ssd_decode`."""
        return {**self.decode, **self.thresholds}

    def write(self, exported: Union[str, Path]) -> None:
        """Write the interface next to an exported file."""
        with atomic_path(Path(exported).with_suffix('.json')) as path:
            path.write_text(json.dumps(asdict(self), indent=2) + '\n', encoding='utf-8')

    @classmethod
    def read(cls, exported: Union[str, Path]) -> 'Interface':
        """Read the interface next to an exported file.

        Raises:
            ExportError: The file is missing, not ours, or from another version.
        """
        path = Path(exported).with_suffix('.json')
        try:
            fields = json.loads(path.read_text(encoding='utf-8'))
            if fields['backend'] in FORMATS and fields.get('format', 1) != FORMAT:
                raise ExportError(
                    f'{path} has format {fields.get("format", 1)!r} from another version of '
                    f'mobileone_mm; this version reads format {FORMAT}: export the model again')
            found = cls(**{**fields, 'shape': tuple(fields['shape'])})
            found._check()
            return found
        except FileNotFoundError:
            raise ExportError(f'{path} is missing: keep the .json file that was written '
                              f'next to {Path(exported).name}') from None
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ExportError(f'{path} does not describe an exported model: {error}') from error

    def _check(self) -> None:
        """Check all fields, since the file may come from anywhere.

        Raises:
            ValueError: A field has a value that no export writes.
        """
        texts = (self.dynamic, self.output_names, self.classes)
        for name, valid in (
                ('backend', self.backend in FORMATS), ('task', self.task in TASKS.values()),
                ('shape', len(self.shape) == 4 and all(type(n) is int for n in self.shape)),
                ('outputs', isinstance(self.outputs, list)),
                ('dynamic, outputs or classes', all(isinstance(group, list) and all(
                    isinstance(text, str) for text in group) for group in texts)),
                ('half', isinstance(self.half, bool)), ('form', self.form in ('', *FORMS)),
                ('precision', self.precision in ('f32', 'f16')),
                ('input', self.input['normalization'] in ('app', 'graph')
                 and self.input['layout'] in description.LAYOUTS),
                ('postprocess', all(step in description.STEPS for step in self.postprocess)),
                ('palette', isinstance(self.palette, list)),
                ('resize, thresholds, decode or versions', all(
                    isinstance(group, dict)
                    for group in (self.resize, self.thresholds, self.decode, self.versions)))):
            if not valid:
                raise ValueError(f'its {name} has a value that tools/deploy.py does not write')
