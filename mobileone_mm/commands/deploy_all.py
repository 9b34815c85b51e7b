"""Compare all installed backends: ``tools/deploy.py --backend all``."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List, Optional, Sequence

from mmengine.model import BaseModel
from torch import Tensor

from ..export.errors import MissingPackageError
from ..export.formats import FORMATS
from ..export.pipeline import Exported, export_model, load_trained
from ..export.running.exported_model import ExportedModel
from ..export.samples import Samples
from ..utils.fileio import atomic_path
from ..utils.timing import processor_ms
from .main import describe
from .train_test import test

__all__ = ['Row', 'deploy_all', 'processor_times']

ROUNDS = 20
METRICS = ('coco/bbox_mAP', 'mIoU')  # the table only has room for one of a test's metrics


@dataclass
class Row:
    """The result of one backend.

    Attributes:
        backend: A key of ``FORMATS``, or 'PyTorch'.
        exported: The exported file; None if there is none.
        problem: Why there is no file, or what else went wrong.
        failed: Whether the backend failed; one that is not installed did not.
        ms: CPU time of one run on one thread, in milliseconds.
        metric: The name and value of a metric on the test set.
    """

    backend: str
    exported: Optional[Exported] = None
    problem: str = ''
    failed: bool = False
    ms: Optional[float] = None
    metric: Optional[Sequence[Any]] = None

    def cells(self) -> List[str]:
        """The cells of its row in the table."""
        metric = f'{self.metric[1]:.4f}' if self.metric else ''
        if self.exported is None:
            return [self.backend, self.problem, '', '', '', metric]
        parity = self.problem or str(self.exported.parity or 'not run here')
        return [self.backend, self.exported.path.name, f'{self.exported.bytes:,}', parity,
                'not run here' if self.ms is None else f'{self.ms:.1f}', metric]


def deploy_all(config: str, checkpoint: str, image: str, out: str, evaluate: bool = False,
               verify: Optional[str] = None, cfg_options: Any = None,
               report: Callable[[str], Any] = print, **options: Any) -> List[Row]:
    """Export to each backend in turn, then measure all files; the table lists failures too.

    After each step, the table is saved as CONFIG_all.md and its plot as CONFIG_all.png, so an
    interrupted run loses nothing.

    Args:
        config: See :func:`export_model`.
        checkpoint: See :func:`export_model`.
        image: See :func:`export_model`.
        out: See :func:`export_model`.
        evaluate: Test the checkpoint and each file on the test set.
        verify: See :func:`export_model`.
        cfg_options: See :func:`export_model`.
        report: Called with a line of text when a step begins.
        options: More options of :func:`export_model`.
    """
    cfg, model = load_trained(config, checkpoint, cfg_options)
    example = Samples(cfg)(image)['inputs'][0][None].float()
    rows = [Row('PyTorch', problem='unfolded')] if evaluate else []
    target = Path(out) / f'{Path(config).stem}_all'
    for backend, chosen in FORMATS.items():
        report(f'{backend}: exporting')
        rows.append(_export(backend, config=config, checkpoint=checkpoint, image=image, out=out,
                            verify=verify if chosen.runtime else None, cfg_options=cfg_options,
                            **options))
        write(rows, target)
    report('measuring all files')
    files = {row.backend: row.exported for row in rows if row.exported}
    for name, ms in processor_times(files, model, example).items():
        next(row for row in rows if row.backend == name).ms = ms
    write(rows, target)
    for row in rows if evaluate else []:
        if row.exported is None and row.backend in FORMATS or row.exported and (
                not row.exported.parity):
            continue
        report(f'{row.backend}: testing')
        changes = ['--cfg-options', *cfg_options] if cfg_options else []
        try:
            found = test([config, str(row.exported.path if row.exported else checkpoint),
                          '--work-dir', out, *changes])
            name = next((name for name in METRICS if name in found), next(iter(found)))
            row.metric = name, found[name]
        except Exception as error:
            row.problem, row.failed = describe(error), True
        write(rows, target)
    return rows


def _export(backend: str, **options: Any) -> Row:
    try:
        return Row(backend, export_model(backend=backend, **options))
    except MissingPackageError as error:
        return Row(backend, problem=describe(error))
    except Exception as error:  # converters raise their own exceptions
        return Row(backend, problem=describe(error), failed=True)


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
    metric = next((row.metric[0] for row in rows if row.metric), '')
    header = ['backend', 'file', 'bytes', 'parity', 'ms, one thread', metric]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in (
        header, ['--'] * len(header), *(row.cells() for row in rows))) + '\n'


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
    measured = [row for row in rows if row.metric]
    name = measured[0].metric[0] if measured and measured[0].metric else 'megabytes'
    for row in measured or rows:
        x, size = row.ms or 0., row.exported.bytes / 1e6 if row.exported else 0.
        y = row.metric[1] if row.metric else size
        axis.plot(x, y, 'o', label=row.backend)  # points may overlap
    axis.set(xlabel='milliseconds of one run, one thread', ylabel=name)
    axis.legend()
    axis.margins(.15)
    save_figure(figure, path, dpi=120)
