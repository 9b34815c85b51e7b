"""A complete measurement: select, prepare, take turns, sum up, save."""

import gc
import os
import tempfile
import warnings
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from mmengine.analysis import get_model_complexity_info
from torch import nn

from ...export import ExportError
from . import machine, roofline
from .backends import Preparer, check_backends
from .networks import FAMILIES, Network, select
from .results import Results, Row
from .timing import summarize, take_turns, torch_threads

__all__ = ['ROOFLINE', 'Settings', 'count', 'run']

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
        check_backends(self.backends)
        if self.roofline:
            select(self.roofline)
            check_backends(['onnxruntime'])
        return select(self.nets)


def run(settings: Settings, out: Path, command: str = '',
        progress: Progress = lambda done, total, text: None) -> Results:
    """Measure, and write ``latency.json`` and ``latency.csv``, after Ctrl-C with what there is.

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
    job = _Job(settings, networks, command, progress)
    try:
        with torch_threads(settings.threads):
            job.measure()
    finally:
        job.sum_up()
        job.results.write(out)
    return job.results


def count(module: nn.Module, size: int) -> Dict[str, int]:
    """Multiply-adds, parameters and activations for one image, as mmengine counts them.

    Multiply-adds are what the paper and mmengine call FLOPs; activations are the elements that
    convolutions and linear layers write.

    Args:
        module: A module that takes images (1, 3, size, size), in the form to count: fold it first.
        size: Height and width, in pixels.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # remarks about tracing
        found = get_model_complexity_info(module, inputs=(torch.zeros(1, 3, size, size), ),
                                          show_table=False, show_arch=False)
    return dict(macs=int(found['flops']), params=found['params'],
                activations=int(found['activations']))


class _Job:
    """The state of a run."""

    def __init__(self, settings: Settings, networks: Sequence[Network], command: str,
                 progress: Progress) -> None:
        self.settings, self.networks, self.progress = settings, networks, progress
        self.costs: Dict[str, Dict[str, int]] = {}
        self.samples: Dict[Tuple[str, str], List[float]] = defaultdict(list)
        self.done = 0
        self.results = Results(
            command=command, started=_now(), finished='', machine=machine.describe(),
            settings=asdict(settings), rows=[])

    def measure(self) -> None:
        """Measure the peaks, every family, the roofline, and the peaks again."""
        self._peak()
        for family in FAMILIES:
            members = [network for network in self.networks if network.family == family]
            if members:
                self._measure_family(members)
                gc.collect()
        for network in select(self.settings.roofline):
            self._profile(network)
        self._peak()

    def _rounds(self, family: str) -> int:
        return max(3, self.settings.rounds // (SLOW if family == 'segmentors' else 1))

    def _tell(self, text: str) -> None:
        total = sum(self._rounds(network.family) for network in self.networks)
        self.progress(self.done, total * len(self.settings.backends), text)

    def _measure_family(self, members: Sequence[Network]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            calls: Dict[Tuple[str, str], Callable[[], object]] = {}
            for network in members:
                self._tell(f'preparing {network.name}')
                calls.update(self._prepare(network, folder))
            rounds = self._rounds(members[0].family)
            for key, samples in take_turns(calls, rounds, self.settings.turn_ms):
                self.samples[key] += samples
                self.done += 1
                self._tell(', '.join(key))

    def _preparer(self, network: Network, folder: str) -> Preparer:
        settings = self.settings
        return Preparer(network, Path(folder), settings.batch, settings.size, settings.threads)

    def _prepare(self, network: Network, folder: str
                 ) -> Iterator[Tuple[Tuple[str, str], Callable[[], object]]]:
        """A warm call for each backend that can run the network."""
        preparer = self._preparer(network, folder)
        self.costs[network.name] = count(preparer.module, preparer.image.shape[-1])
        for backend in self.settings.backends:
            try:
                call = preparer.call(backend)
                preparer.check(call())  # and warm up
            except (ExportError, RuntimeError, NotImplementedError, ValueError) as error:
                text = str(error).strip() or type(error).__name__
                self.results.skipped[f'{network.name}, {backend}'] = text.splitlines()[0][:300]
                continue
            yield (network.name, backend), call

    def _profile(self, network: Network) -> None:
        self._tell(f'profiling {network.name}')
        with tempfile.TemporaryDirectory() as folder:
            preparer = self._preparer(network, folder)
            layers = roofline.profile(preparer.onnx(), preparer.image.numpy(),
                                      self.settings.threads,
                                      runs=5 if network.family == 'segmentors' else 30)
        self.results.roofline[network.name] = [layer.asdict() for layer in layers]

    def _peak(self) -> None:
        self._tell("the machine's peak")
        peak = machine.measure_peak(self.settings.threads)
        self.results.peaks.append(dict(asdict(peak), load=_load()))

    def sum_up(self) -> None:
        """Set the rows of what was measured so far."""
        self.results.finished = _now()
        self.results.rows = [
            Row.of(network, backend, self.settings, self.costs[network.name],
                   summarize(self.samples[network.name, backend]))
            for network in self.networks for backend in self.settings.backends
            if (network.name, backend) in self.samples]


def _now() -> str:
    return datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M:%S UTC')


def _load() -> Optional[float]:
    """Processes that wanted a core in the last minute, this measurement included."""
    return round(os.getloadavg()[0], 2) if hasattr(os, 'getloadavg') else None
