"""The JSON file that lies beside an exported model."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple, Union

from ..utils.fileio import atomic_path
from ..utils.libraries import TASKS
from .errors import ExportError
from .formats import FORMATS, FORMS
from .job import ExportJob


@dataclass
class Interface:
    """What a file of weights does not say about itself; saved beside it as NAME.json.

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
        form: Of a detector's outputs, of :data:`.formats.FORMS`; empty for the backend's own. The
            input of 'react-native' is RGB, 0 to 1.
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
    form: str = ''

    @classmethod
    def of(cls, job: ExportJob, outputs: Sequence[str], normalized: bool = False,
           **decode: Any) -> 'Interface':
        """The interface of a job's export."""
        batch, channels, height, width = job.image.shape
        return cls(job.backend, job.task, normalized, (batch, channels, height, width),
                   list(job.dynamic), job.half, list(outputs), list(job.classes), decode, job.form)

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
            found = cls(**{**fields, 'shape': tuple(fields['shape'])})
            found._check()
            return found
        except FileNotFoundError:
            raise ExportError(f'{path} is missing: keep the .json that was written '
                              f'beside {Path(exported).name}') from None
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ExportError(f'{path} does not describe an exported model: {error}') from error

    def _check(self) -> None:
        """The file lies beside one that comes from anywhere: what it names is looked up by others.

        Raises:
            ValueError: A field is not what an export writes.
        """
        texts = (self.dynamic, self.outputs, self.classes)
        for name, valid in (
                ('backend', self.backend in FORMATS), ('task', self.task in TASKS.values()),
                ('shape', len(self.shape) == 4 and all(type(n) is int for n in self.shape)),
                ('dynamic, outputs or classes', all(isinstance(group, list) and all(
                    isinstance(text, str) for text in group) for group in texts)),
                ('decode', isinstance(self.decode, dict)),
                ('form', self.form in ('', *FORMS))):
            if not valid:
                raise ValueError(f'its {name} is none of those that tools/deploy.py writes')
