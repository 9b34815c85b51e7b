"""A file of turns, written as they are measured, so that an interruption loses none of them."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

__all__ = ['Journal', 'JournalError']


class JournalError(RuntimeError):
    """The journal belongs to another measurement."""


class Journal:
    """The turns of a measurement, one JSON line each, after a line that says what is measured.

    Args:
        path: The file, which is created, or read and continued.
        setup: What all turns have in common, as JSON.

    Raises:
        JournalError: The file belongs to another setup.
    """

    def __init__(self, path: Path, setup: dict) -> None:
        self.path = Path(path)
        self.samples: Dict[str, List[float]] = defaultdict(list)
        self.done: Set[Tuple[int, str]] = set()
        self.notes: Dict[str, Any] = {}
        setup = json.loads(json.dumps(setup))
        lines = self._read()
        if lines and lines[0] != setup:
            changed = sorted(key for key in {*lines[0], *setup}
                             if lines[0].get(key) != setup.get(key))
            raise JournalError(
                f'{self.path} holds an unfinished measurement with another '
                f'{", ".join(changed)}: continue it with its own options, or delete it')
        self._file = open(self.path, 'a')
        if not lines:
            self._write(setup)
        for item in lines[1:]:
            if 'note' in item:
                self.notes[item['note']] = item['value']
            else:
                self._keep(item['round'], item['name'], item['ms'])

    def _read(self) -> list:
        """Read the complete lines; a last one that a crash cut off is removed."""
        if not self.path.exists():
            return []
        text = self.path.read_text()
        whole = text[:text.rfind('\n') + 1]
        if whole != text:
            self.path.write_text(whole)
        return [json.loads(line) for line in whole.splitlines()]

    def add(self, number: int, name: str, samples: List[float]) -> None:
        """Keep a turn: its round, its candidate, and its samples in milliseconds."""
        samples = [round(sample, 4) for sample in samples]
        self._keep(number, name, samples)
        self._write(dict(round=number, name=name, ms=samples))

    def note(self, name: str, value: Any) -> None:
        """Keep any other result, as JSON."""
        self.notes[name] = value
        self._write(dict(note=name, value=value))

    def _keep(self, number: int, name: str, samples: List[float]) -> None:
        self.done.add((number, name))
        self.samples[name] += samples

    def _write(self, item: object) -> None:
        self._file.write(json.dumps(item) + '\n')
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def remove(self) -> None:
        """Close and delete the file, once the results are saved elsewhere."""
        self.close()
        self.path.unlink(missing_ok=True)
