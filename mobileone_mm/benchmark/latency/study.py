"""A complete measurement: select, prepare, take turns, sum up, save."""

import gc
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from ...export import ExportError
from . import cost, machine, roofline
from .backends import Preparer, check_backends
from .journal import Journal
from .networks import FAMILIES, Network, select
from .results import Results, Row
from .timing import summarize, take_turns, torch_threads

__all__ = ['ROOFLINE', 'Settings', 'run']

ROOFLINE = tuple(f'mobileone_s{i}' for i in range(5)) + (
    'mobilenet_v2_x1.0', 'mobilenet_v3_large', 'ssdlite_mobileone_s1', 'deeplabv3_mobileone_s1')
SLOW = 3
"""Segmentors get this many times fewer rounds, since one call takes longer than a turn."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Settings:
    """What is measured, and how.

    Attributes:
        nets: Families, names or patterns, see :func:`.networks.select`.
        backends: Keys of ``BACKENDS``.
        threads: Threads per call.
        batch: Images per call.
        size: Height and width, in pixels; by default each family's own.
        rounds: Number of rounds; in each, every network takes a turn in every backend.
        turn_ms: Length of a turn, which has at least one call.
        roofline: Networks to profile layer by layer with ONNX Runtime.
    """

    nets: Tuple[str, ...]
    backends: Tuple[str, ...] = ('torch', 'onnxruntime', 'openvino', 'ncnn')
    threads: int = 1
    batch: int = 1
    size: Optional[int] = None
    rounds: int = 10
    turn_ms: float = 50.
    roofline: Tuple[str, ...] = ROOFLINE

    def check(self) -> List[Network]:
        """The chosen networks.

        Raises:
            ValueError: A value is out of range, or a name is unknown.
            mobileone_mm.export.MissingPackageError: A backend is not installed.
        """
        for name in ('threads', 'batch', 'rounds'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, got {getattr(self, name)}')
        if self.size is not None and self.size < 32:
            raise ValueError(f'size must be at least 32 pixels, got {self.size}')
        check_backends(list(self.backends))
        if self.roofline:
            select(self.roofline)
            check_backends(['onnxruntime'])
        return select(self.nets)


def run(settings: Settings, out: Path, command: str = '',
        progress: Progress = lambda done, total, text: None) -> Results:
    """Measure, and continue an interrupted run with the same settings.

    Writes ``latency.json`` and ``latency.csv``. Until both exist, ``latency.journal.jsonl`` holds
    every turn. After Ctrl-C, both files hold the results so far, and the journal stays.

    Args:
        settings: See :class:`Settings`.
        out: Folder for the results, which is created.
        command: The command to save with the results.
        progress: Called with turns done, turns in total, and what is going on.

    Returns:
        The results.

    Raises:
        ValueError: As in :meth:`Settings.check`, before any work.
        KeyboardInterrupt: After Ctrl-C, once the results so far are written.
    """
    networks = settings.check()
    out.mkdir(parents=True, exist_ok=True)
    facts = machine.describe()
    journal = Journal(out / 'latency.journal.jsonl', dict(settings=asdict(settings), machine=facts))
    job = _Job(settings, networks, journal, progress)
    try:
        with torch_threads(settings.threads):
            job.measure()
    finally:
        results = job.results(facts, command)
        results.write(out)
        journal.close()
    journal.remove()
    return results


class _Job:
    """The state of a run."""

    def __init__(self, settings: Settings, networks: Sequence[Network], journal: Journal,
                 progress: Progress) -> None:
        self.settings, self.journal, self.progress = settings, journal, progress
        self.networks = {network.name: network for network in networks}
        self.started = self._now()

    def measure(self) -> None:
        """Measure the peaks, every family, the roofline, and the peaks again."""
        self._peak('peak before')
        for family in FAMILIES:
            members = [n for n in self.networks.values() if n.family == family]
            if members and not self._finished(members):
                self._measure_family(members)
                gc.collect()
        for network in select(self.settings.roofline):
            if f'roofline {network.name}' not in self.journal.notes:
                self._profile(network)
        self._peak('peak after')

    def _rounds(self, family: str) -> range:
        slow = SLOW if family == 'segmentors' else 1
        return range(max(3, self.settings.rounds // slow))

    def _total(self) -> int:
        return len(self.settings.backends) * sum(
            len(self._rounds(n.family)) for n in self.networks.values())

    def _tell(self, text: str) -> None:
        self.progress(len(self.journal.done), self._total(), text)

    def _finished(self, members: Sequence[Network]) -> bool:
        return all((number, f'{n.name}|{backend}') in self.journal.done
                   or f'skipped {n.name}|{backend}' in self.journal.notes
                   for n in members for backend in self.settings.backends
                   for number in self._rounds(n.family))

    def _measure_family(self, members: Sequence[Network]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            calls: Dict[str, Callable[[], object]] = {}
            for network in members:
                self._tell(f'preparing {network.name}')
                calls.update(self._prepare(network, Path(folder)))
            for number in self._rounds(members[0].family):
                left = {name: call for name, call in calls.items()
                        if (number, name) not in self.journal.done}
                for turn in take_turns(left, [number], self.settings.turn_ms):
                    self.journal.add(*turn)
                    self._tell(turn[1].replace('|', ', '))

    def _prepare(self, network: Network, folder: Path) -> Iterator[Tuple[str, Callable]]:
        """A warm call for each backend that can run the network."""
        settings = self.settings
        preparer = Preparer(network, folder, settings.batch, settings.size, settings.threads)
        if f'cost {network.name}' not in self.journal.notes:
            self.journal.note(f'cost {network.name}',
                              asdict(cost.count(preparer.module, preparer.image.shape[-1])))
        for backend in settings.backends:
            name = f'{network.name}|{backend}'
            try:
                call = preparer.call(backend)
                preparer.check(call())  # and warm up
            except (ExportError, RuntimeError, NotImplementedError, ValueError) as error:
                text = str(error).strip() or type(error).__name__
                self.journal.note(f'skipped {name}', text.splitlines()[0][:300])
                continue
            yield name, call

    def _profile(self, network: Network) -> None:
        self._tell(f'profiling {network.name}')
        settings = self.settings
        with tempfile.TemporaryDirectory() as folder:
            preparer = Preparer(network, Path(folder), settings.batch, settings.size,
                                settings.threads)
            runs = 5 if network.family == 'segmentors' else 30
            layers = roofline.profile(preparer.onnx(), preparer.image.numpy(), settings.threads,
                                      runs)
        self.journal.note(f'roofline {network.name}', [layer.asdict() for layer in layers])

    def _peak(self, name: str) -> None:
        if name not in self.journal.notes:
            self._tell("the machine's peak")
            peak = machine.measure_peak(self.settings.threads)
            self.journal.note(name, dict(peak.asdict(), load=_load()))

    @staticmethod
    def _now() -> str:
        return datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M:%S UTC')

    def results(self, facts: dict, command: str) -> Results:
        """The results so far."""
        notes = self.journal.notes
        rows = []
        for network in self.networks.values():
            counted = notes.get(f'cost {network.name}', {})
            for backend in self.settings.backends:
                samples = self.journal.samples.get(f'{network.name}|{backend}')
                if samples:
                    rows.append(Row.of(network, backend, self.settings, counted,
                                       summarize(samples)))
        return Results(
            command=command, started=self.started, finished=self._now(), machine=facts,
            settings=json.loads(json.dumps(asdict(self.settings))), rows=rows,
            peaks=[notes[n] for n in ('peak before', 'peak after') if n in notes],
            skipped={name[len('skipped '):].replace('|', ', '): reason
                     for name, reason in notes.items() if name.startswith('skipped ')},
            roofline={name[len('roofline '):]: layers
                      for name, layers in notes.items() if name.startswith('roofline ')})


def _load() -> Optional[float]:
    """Processes that wanted a core in the last minute, this measurement included."""
    return round(os.getloadavg()[0], 2) if hasattr(os, 'getloadavg') else None
