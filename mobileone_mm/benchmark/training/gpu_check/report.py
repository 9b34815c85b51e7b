"""Keep the findings on disk as they come, so that a timeout loses nothing."""

import json
import time
from pathlib import Path
from threading import RLock
from typing import Any, Callable, Dict, List, Optional, Sequence

import torch

from ....utils.fileio import atomic_path

__all__ = ['DeviceLost', 'Report', 'Stopwatch', 'attempt']

JSON, MARKDOWN = 'gpu_check.json', 'gpu_check.md'


class DeviceLost(RuntimeError):
    """CUDA refuses all further work of the process, for example after an illegal access."""


class Stopwatch:
    """The time left of a budget."""

    def __init__(self, budget: float) -> None:
        self.end = time.monotonic() + budget

    def left(self) -> float:
        """Seconds left; may be negative."""
        return self.end - time.monotonic()

    def part(self, seconds: float) -> 'Stopwatch':
        """A clock for a part, which ends with the whole at the latest."""
        return Stopwatch(min(seconds, self.left()))


class Report:
    """Rows by section, written to ``gpu_check.json`` and ``gpu_check.md`` in ``folder``.

    Args:
        folder: Folder of the files, which is created.
        facts: Facts about the machine and the run.
        resume: Keep the rows of the folder's JSON file.
    """

    def __init__(self, folder: Path, facts: Dict[str, Any], resume: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.facts, self.start = folder, facts, time.monotonic()
        self.sections: Dict[str, List[dict]] = {}
        if resume and (folder / JSON).exists():
            self.sections = json.loads((folder / JSON).read_text())['sections']
        self._lock = RLock()
        self.save()

    def has(self, section: str, **values: Any) -> bool:
        """Whether there is a row with these values."""
        return any(values.items() <= row.items() for row in self.sections.get(section, ()))

    def add(self, section: str, **row: Any) -> dict:
        """Append a row, print it and save it."""
        with self._lock:
            self.sections.setdefault(section, []).append(row)
            print(f'[{time.monotonic() - self.start:5.0f} s] {section}: '
                  + ', '.join(f'{key} {_text(value)}' for key, value in row.items()
                              if not isinstance(value, (list, dict))), flush=True)
            self.save()
        return row

    def check_device(self) -> None:
        """Raise :class:`DeviceLost` if the device is lost; call it after adding a row."""
        if torch.cuda.is_initialized():
            try:
                torch.cuda.synchronize()
            except RuntimeError as error:
                raise DeviceLost(str(error)) from error

    def save(self) -> None:
        """Write both files."""
        seconds = round(time.monotonic() - self.start, 1)
        content = dict(facts=self.facts, seconds=seconds, sections=self.sections)
        for name, text in ((JSON, json.dumps(content, indent=1)), (MARKDOWN, self._markdown())):
            with atomic_path(self.folder / name) as path:
                path.write_text(text + '\n')

    def _markdown(self) -> str:
        lines = ['# GPU check', ''] + [f'- {key}: {value}' for key, value in self.facts.items()]
        for section, rows in self.sections.items():
            lines += ['', f'## {section}', '', *_table(rows)]
        return '\n'.join(lines)


def attempt(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """The function's result, or ``dict(failed=...)``: no failure may hide other findings."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        told: List[str] = []
        cause: Optional[BaseException] = error
        while cause is not None and len(told) < 3:  # a cause may say more than the error
            told.append(f'{type(cause).__name__}: {_shortened(str(cause).strip())}')
            cause = cause.__cause__ or cause.__context__
        return dict(failed=' <- '.join(told))


def _shortened(text: str, most: int = 500) -> str:
    """The beginning and the end of a text."""
    return text if len(text) <= most else f'{text[:most // 2]} ... {text[-most // 2:]}'


def _table(rows: Sequence[dict]) -> List[str]:
    """A Markdown table; nested values are only in the JSON."""
    columns = list(dict.fromkeys(
        key for row in rows for key, value in row.items() if not isinstance(value, (list, dict))))
    lines = ['| ' + ' | '.join(columns) + ' |', '|' + '--|' * len(columns)]
    for row in rows:
        cells = [_text(row[key]) if key in row else '' for key in columns]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return lines


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:.3g}'
    return str(value).replace('|', '/').replace('\n', ' ')
