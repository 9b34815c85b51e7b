"""Compare all installed backends: ``tools/deploy.py --backend all``."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List, Optional, Sequence

from mmengine.model import BaseModel
from torch import Tensor

from ..export.errors import ExportError, MissingPackageError
from ..export.formats import FORMATS, check_options
from ..export.pipeline import Exported, export_trained
from ..export.running.exported_model import ExportedModel
from ..export.trained import Trained
from ..utils.fileio import atomic_path
from ..utils.timing import processor_ms
from .main import describe
from .train_test import test

__all__ = ['Row', 'deploy_all', 'processor_times']

ROUNDS = 20
METRICS = ('coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_75', 'mIoU')  # columns of the table


@dataclass
class Row:
    """The result of one backend.

    Attributes:
        backend: A key of ``FORMATS``, or 'PyTorch'.
        exported: The exported file; None if there is none.
        problem: Why there is no file, or what else went wrong.
        failed: Whether the backend failed; one that is not installed did not.
        fixed: The axes that were to be open, but that the backend cannot leave open.
        ms: CPU time of one run on one thread, in milliseconds.
        metrics: Those of :data:`METRICS` that the test set has; one of its others if it has none.
    """

    backend: str
    exported: Optional[Exported] = None
    problem: str = ''
    failed: bool = False
    fixed: Sequence[str] = ()
    ms: Optional[float] = None
    metrics: Dict[str, float] = field(default_factory=dict)

    def cells(self, metrics: Sequence[str]) -> List[str]:
        """The cells of its row in the table."""
        last = [f'{self.metrics[name]:.4f}' if name in self.metrics else '' for name in metrics]
        if self.exported is None:
            return [self.backend, self.problem, '', '', '', *last]
        parity = self.problem or str(self.exported.parity or 'not run here')
        if self.fixed:
            parity = f'fixed {" and ".join(self.fixed)}; {parity}'
        return [self.backend, self.exported.path.name, f'{self.exported.bytes:,}', parity,
                'not run here' if self.ms is None else f'{self.ms:.1f}', *last]


def deploy_all(config: str, checkpoint: str, image: str, out: str, *, evaluate: bool = False,
               verify: Optional[str] = None, dynamic: Sequence[str] = (), cfg_options: Any = None,
               report: Callable[[str], Any] = print, **options: Any) -> List[Row]:
    """Export to each backend in turn, then measure all files; the table lists failures too.

    After each step, the table is saved as CONFIG_all.md and its plot as CONFIG_all.png, so an
    interrupted run loses nothing.

    Args:
        config: See :func:`~mobileone_mm.export.pipeline.export_model`.
        checkpoint: See :func:`export_model`.
        image: See :func:`export_model`.
        out: See :func:`export_model`.
        evaluate: Test the checkpoint and each file on the test set.
        verify: See :func:`export_model`. A file with a fixed axis is compared on ``image`` alone.
        dynamic: Axes to leave open where the backend can.
        cfg_options: See :func:`export_model`.
        report: Called with a line of text when a step begins.
        options: More options of :func:`export_model`.

    Raises:
        ExportError: No backend supports an option, or ``image`` cannot be read.
    """
    # This backend supports all axes and float16, so it refuses what none supports.
    check_options('onnx', dynamic, options.get('half', False), options.get('form', ''))
    trained = Trained(config, checkpoint, cfg_options)
    example = trained.samples(image)['inputs'][0][None].float()
    rows = [Row('PyTorch', problem='unfolded')] if evaluate else []
    target = Path(out) / f'{trained.name}_all'
    for backend in FORMATS:
        report(f'{backend}: exporting')
        rows.append(_export(trained, backend, dynamic, verify, image=image, out=out, **options))
        write(rows, target)
    report('measuring all files')
    files = {row.backend: row.exported for row in rows if row.exported}
    for name, ms in processor_times(files, trained.model, example).items():
        next(row for row in rows if row.backend == name).ms = ms
    write(rows, target)
    for row in rows if evaluate else []:
        if row.exported is None and row.backend in FORMATS or row.exported and (
                not row.exported.parity):
            continue
        report(f'{row.backend}: testing')
        _test(row, config, str(row.exported.path if row.exported else checkpoint), out, cfg_options)
        write(rows, target)
    return rows


def _export(trained: Trained, backend: str, dynamic: Sequence[str], verify: Optional[str],
            **options: Any) -> Row:
    chosen = FORMATS[backend]
    if options.get('half') and not chosen.half:
        return Row(backend, problem='does not support float16')
    opened = [axis for axis in dynamic if axis in chosen.dynamic]
    fixed = [axis for axis in dynamic if axis not in opened]
    try:
        return Row(backend, fixed=fixed, exported=export_trained(
            trained, backend, dynamic=opened,
            verify=verify if chosen.runtime and not fixed else None, **options))
    except MissingPackageError as error:
        return Row(backend, problem=describe(error))
    except Exception as error:  # converters raise their own exceptions
        return Row(backend, problem=describe(error), failed=True)


def _test(row: Row, config: str, model: str, out: str, cfg_options: Any) -> None:
    """Fill in the metrics of a row, or the problem."""
    changes = ['--cfg-options', *cfg_options] if cfg_options else []
    try:
        found = test([config, model, '--work-dir', out, *changes])
    except Exception as error:
        row.problem = describe(error)
        # A file of a fixed size refuses images of other sizes.
        row.failed = not (row.fixed and isinstance(error, ExportError))
        return
    names = [name for name in METRICS if name in found] or [next(iter(found))]
    row.metrics = {name: found[name] for name in names}


def processor_times(files: Dict[str, Exported], model: BaseModel, image: Tensor,
                    rounds: int = ROUNDS) -> Dict[str, float]:
    """Median CPU time of one run on one thread in milliseconds, with files taking turns.

    Other load on the machine then hardly matters. Files that a stand-in runs are left out.

    Args:
        files: The exported files by name.
        model: The PyTorch model, for its preprocessing.
        image: (1, 3, H, W), BGR, 0 to 255.
        rounds: Number of runs of each file.
    """
    calls = {}
    for name, result in files.items():
        if result.latency_ms is not None:
            exported = ExportedModel.load(result.path, model.data_preprocessor, threads=1)
            array = exported.normalize(image).numpy()
            calls[name] = lambda run=exported.runtime, array=array: run(array)
            calls[name]()
    return {name: median(times) for name, times in processor_ms(calls, rounds).items()}


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    header = ['backend', 'file', 'bytes', 'parity', 'ms, one thread', *metrics]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in (
        header, ['--'] * len(header), *(row.cells(metrics) for row in rows))) + '\n'


def write(rows: Sequence[Row], target: Path) -> None:
    """Write the table to ``target``.md and, once there are times, the plot to ``target``.png."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target.with_suffix('.md')) as path:
        path.write_text(table(rows), encoding='utf-8')
    timed = [row for row in rows if row.exported and row.ms is not None]
    if timed:
        _draw(timed, target.with_suffix('.png'))


def _draw(rows: Sequence[Row], path: Path) -> None:
    """Plot latency against the metric or, without one, against size."""
    from ..utils.plots import new_figure, save_figure
    figure = new_figure(6, 4)
    axis = figure.add_subplot()
    measured = [row for row in rows if row.metrics]
    name = next(iter(measured[0].metrics)) if measured else 'megabytes'
    for row in measured or rows:
        x, size = row.ms or 0., row.exported.bytes / 1e6 if row.exported else 0.
        axis.plot(x, row.metrics[name] if measured else size, 'o', label=row.backend)  # may overlap
    axis.set(xlabel='milliseconds of one run, one thread', ylabel=name)
    axis.legend()
    axis.margins(.15)
    save_figure(figure, path, dpi=120)
