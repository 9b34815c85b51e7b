"""Draw the predictions of a checkpoint or an exported model."""

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import VISUALIZERS
from rich.progress import Progress

from ..export.errors import ExportError
from ..export.running.exported_model import ExportedModel, is_exported
from ..export.samples import Samples
from ..folding.models import build_model, load_weights
from ..folding.reparameterize import holds_unfolded, reparameterize
from ..utils.configs import read_config
from ..utils.devices import find_device
from ..utils.errors import PreflightError
from ..utils.libraries import class_palette
from .frames import check_out, open_sink, open_source
from .main import describe
from .predict_files import open_files

LISTED = 20  # how many problems are printed at the end


class Speed(NamedTuple):
    """Speed of a run in pictures per second, and what could not be read."""

    count: int  # type: ignore[assignment]  # tuple's own count() is not needed
    model: float
    overall: float
    problems: Tuple[str, ...] = ()

    def check(self) -> None:
        """Report what could not be read.

        Raises:
            ExportError: Something could not be read; all other results are written.
        """
        if self.problems:
            more = len(self.problems) - LISTED
            raise ExportError('; '.join(self.problems[:LISTED]) + (
                f'; and {more:,} more' if more > 0 else ''))

    def __str__(self) -> str:
        return (f'{self.count} pictures: {self.model:.1f} per second in the model, '
                f'{self.overall:.1f} with reading, drawing and writing')


class Predictor:
    """A model, its test pipeline and its library's visualizer.

    Args:
        model: A checkpoint, or a file exported by tools/deploy.py.
        config: Its config; by default the .py beside it, which folding and exporting write.
        device: Device for a checkpoint's model.
        score_thr: Boxes with lower scores are not drawn.

    Raises:
        CheckpointError: The checkpoint is damaged or belongs to another model.
        ExportError: There is no config, or the file is for another task.
        FileNotFoundError: There is no such model.
        PreflightError: There is no such device, or the threshold is not a score.
    """

    def __init__(self, model: Union[str, Path], config: Optional[Union[str, Path]] = None,
                 device: str = 'cpu', score_thr: float = .3) -> None:
        if not 0 <= score_thr <= 1:
            raise PreflightError(f'--score-thr {score_thr}: expected a number from 0 to 1')
        where = find_device(device)
        self.cfg = read_config(_config_of(Path(model), config))
        built = build_model(self.cfg)
        if is_exported(model):
            self.model: Any = ExportedModel.stand_in(model, self.cfg, built.data_preprocessor)
        else:
            load_weights(built, model)
            built.eval()
            self.model = (reparameterize(built) if holds_unfolded(built) else built).to(where)
        self.samples = Samples(self.cfg)
        self.score_thr = score_thr
        self.visualizer = VISUALIZERS.build(dict(type=_visualizer(self.samples.task),
                                                 name='predict'))
        self.visualizer.dataset_meta = _meta(self.cfg, self.samples)

    def __call__(self, picture: np.ndarray) -> Any:
        """Predict; takes a picture (H, W, 3), BGR, uint8, and returns its data sample."""
        with torch.no_grad():
            return self.model.test_step(self.samples(picture))[0]

    def draw(self, picture: np.ndarray, sample: Any) -> np.ndarray:
        """Draw the predictions on the picture, BGR."""
        options = dict(pred_score_thr=self.score_thr) if self.samples.task == 'detection' else {}
        self.visualizer.add_datasample('', np.ascontiguousarray(picture[..., ::-1]),
                                       sample.cpu(), draw_gt=False, **options)
        return np.ascontiguousarray(self.visualizer.get_image()[..., ::-1])


def predict(predictor: Predictor, source: str, out: Union[str, Path],
            limit: Optional[int] = None, save: Sequence[str] = ()) -> Speed:
    """Draw the predictions on pictures, folders, videos or a camera; Ctrl-C ends a camera.

    A picture that cannot be read or drawn on is skipped and listed in the result.

    Args:
        predictor: The model.
        source: As in :func:`mobileone_mm.commands.frames.open_source`.
        out: Directory for one .png per picture, or for an .mp4.
        limit: Maximum number of pictures or frames.
        save: Other files to write, see :data:`mobileone_mm.commands.predict_files.KINDS`.

    Raises:
        ExportError: As in :func:`mobileone_mm.commands.frames.open_source`; or ``out`` is the
            folder of the originals; or ``save`` does not fit the model's task.
        PreflightError: ``limit`` is below 1.
    """
    if limit is not None and limit < 1:
        raise PreflightError(f'--limit {limit}: expected at least 1')
    out = Path(out)
    files = open_files(save, predictor, out)
    pictures = open_source(source)
    check_out(pictures, out)
    count, in_model, start = 0, 0., time.perf_counter()
    total = min(pictures.count or limit or 0, limit or pictures.count)
    with open_sink(pictures, out) as write, Progress(disable=not sys.stdout.isatty()) as bar:
        try:
            for frame in bar.track(pictures.frames, total or None, description='pictures'):
                before = time.perf_counter()
                try:
                    sample = predictor(frame.picture)
                    in_model += time.perf_counter() - before
                    drawn = predictor.draw(frame.picture, sample)
                except Exception as error:  # for example, a size that a library cannot handle
                    if pictures.count == 1 or pictures.fps:
                        raise
                    pictures.problems.append(f'{frame.file_name}: {describe(error)}')
                    continue
                write(frame.name, drawn)
                for each in files:
                    each.add(frame, sample)
                count += 1
                if count == limit:
                    break
        except KeyboardInterrupt:
            if not pictures.fps:
                raise
        finally:
            for each in files:
                each.close()
    return Speed(count, count / max(in_model, 1e-9), count / (time.perf_counter() - start),
                 tuple(pictures.problems))


def _config_of(model: Path, config: Optional[Union[str, Path]]) -> Path:
    if not model.exists():
        raise FileNotFoundError(f'there is no model {model}')
    path = Path(config) if config else model.with_suffix('.py')
    if not path.is_file():
        raise ExportError(f'there is no config {path}: give one with --config')
    return path


def _visualizer(task: str) -> str:
    return 'DetLocalVisualizer' if task == 'detection' else 'SegLocalVisualizer'


def _meta(cfg: Config, samples: Samples) -> dict:
    """Classes and palette of the data set, as visualizers read them."""
    palette = class_palette(cfg.test_dataloader.dataset, len(samples.classes))
    return dict(classes=tuple(samples.classes), palette=palette)
