"""The JSON file that lies beside an exported model."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple, Union

from ..utils.fileio import atomic_path
from .errors import ExportError
from .job import ExportJob


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
        batch, channels, height, width = job.image.shape
        return cls(job.backend, job.task, normalized, (batch, channels, height, width),
                   list(job.dynamic), job.half, list(outputs), list(job.classes), decode)

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
