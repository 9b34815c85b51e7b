"""The results of a measurement, as JSON and CSV."""

import csv
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Dict, List, Optional

from ...utils.fileio import atomic_path
from .networks import Network
from .roofline import Layer
from .timing import Summary

__all__ = ['Results', 'Row']


@dataclass(frozen=True)
class Row:
    """One network in one backend; times are of one call, in milliseconds.

    Attributes:
        scope: What a call includes: ``'whole'``, or ``'network'`` if the backend's graph ends
            before decoding, suppression or argmax.
    """

    network: str
    label: str
    family: str
    group: str
    form: str
    backend: str
    scope: str
    threads: int
    batch: int
    size: int
    macs: int
    params: int
    activations: int
    median_ms: float
    min_ms: float
    p10_ms: float
    p90_ms: float
    samples: int

    @classmethod
    def of(cls, network: Network, backend: str, settings: Any, cost: Dict[str, int],
           times: Summary) -> 'Row':
        """Make a row of a measurement."""
        raw = dict(ncnn=('detectors', 'segmentors'), litert=('detectors', ),
                   executorch=('detectors', ))
        return cls(
            network=network.name, label=network.label, family=network.family, group=network.group,
            form=network.form, backend=backend,
            scope='network' if network.family in raw.get(backend, ()) else 'whole',
            threads=settings.threads, batch=settings.batch, size=settings.size or network.size,
            **cost, samples=times.samples,
            **{f'{key}_ms': round(getattr(times, key), 4)
               for key in ('median', 'min', 'p10', 'p90')})

    @property
    def gflops(self) -> float:
        """1e9 multiplications and additions per second, at the median."""
        return 2e-6 * self.macs * self.batch / self.median_ms


@dataclass
class Results:
    """Everything a report needs.

    Attributes:
        command: The command that measured them.
        started: Start of the measurement, UTC.
        finished: End of the measurement, UTC.
        machine: :func:`.machine.describe`.
        settings: :class:`.study.Settings`.
        rows: The measurements.
        peaks: :class:`.machine.Peak` before and after, and the load average.
        skipped: 'network, backend' -> why it was not timed.
        roofline: The layers of each profiled network.
    """

    command: str
    started: str
    finished: str
    machine: Dict[str, Any]
    settings: Dict[str, Any]
    rows: List[Row]
    peaks: List[dict] = field(default_factory=list)
    skipped: Dict[str, str] = field(default_factory=dict)
    roofline: Dict[str, List[dict]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write ``latency.json`` and ``latency.csv``, each whole or not at all."""
        with atomic_path(folder / 'latency.json') as path:
            path.write_text(_compact_json(asdict(self)) + '\n')
        with atomic_path(folder / 'latency.csv') as path, path.open('w', newline='') as file:
            writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator='\n')
            writer.writeheader()
            writer.writerows(asdict(row) for row in self.rows)

    @classmethod
    def read(cls, folder: Path) -> 'Results':
        """Read the ``latency.json`` in a folder.

        Raises:
            ValueError: The file does not hold such results.
            FileNotFoundError: It does not exist.
        """
        path = folder / 'latency.json'
        if not path.is_file():
            raise FileNotFoundError(f'there are no results at {path}: run '
                                    'tools/benchmark/latency.py first')
        try:
            data = json.loads(path.read_text())
            return cls(**dict(data, rows=[Row(**row) for row in data['rows']]))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f'{path} holds no results of tools/benchmark/latency.py: {error}') \
                from error

    def select(self, family: str, backend: Optional[str] = None,
               form: Optional[str] = None) -> List[Row]:
        """The rows of a family, in the table's order."""
        return [row for row in self.rows if row.family == family
                and backend in (None, row.backend) and form in (None, row.form)]

    @property
    def backends(self) -> List[str]:
        """The backends that were timed."""
        return list(dict.fromkeys(row.backend for row in self.rows))

    def layers(self, network: str) -> List[Layer]:
        """The profiled layers of a network."""
        return [Layer(**layer) for layer in self.roofline[network]]

    def peak(self) -> dict:
        """The best of all measured peaks, for each roof."""
        best = max(self.peaks, key=lambda peak: peak['gflops'])
        return dict(best, **{roof: max(peak[roof] for peak in self.peaks)
                             for roof in ('dram_gbs', 'cache_gbs')})


def _compact_json(data: dict) -> str:
    """JSON with one line per row and layer."""
    text = []
    for key, value in data.items():
        if isinstance(value, list):
            value_text = _lines(value, '\n  ')
        elif key == 'roofline':
            value_text = '{' + ','.join('\n  ' + json.dumps(name) + ': ' + _lines(layers, '\n   ')
                                        for name, layers in value.items()) + '}'
        else:
            value_text = json.dumps(value)
        text.append(f' {json.dumps(key)}: {value_text}')
    return '{\n' + ',\n'.join(text) + '\n}'


def _lines(items: list, start: str) -> str:
    return '[' + ','.join(start + json.dumps(item) for item in items) + ']'
