"""Turn a checkpoint and its config into an exported file that was compared."""

import copy
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, Dict, Iterator, Optional, Sequence, Union

import torch
from mmengine.model import BaseModel

from ..folding.verify import tensors_of
from .backends.phones import best_classes, is_of_phones, raw_outputs
from .errors import ExportError, ParityError, UnknownHeadError
from .formats import FORMATS, check_options, require
from .job import ExportJob
from .parity import FLOAT16, FLOAT32, Pair, Parity, compare
from .running.exported_model import ExportedModel
from .running.prediction_maps import match_maps
from .samples import Samples, list_pictures, read_picture
from .ties import find_ties
from .trained import Trained

LATENCY_RUNS = 20


@dataclass
class Exported:
    """The result of an export.

    Attributes:
        path: The exported file or directory.
        bytes: Total size of all its parts.
        parity: The comparison; None if the format cannot be run here.
        latency_ms: Median time of one inference of the sample image on one thread.
        note: A remark for the user.
    """

    path: Path
    bytes: int
    parity: Optional[Parity] = None
    latency_ms: Optional[float] = None
    note: str = ''

    def __str__(self) -> str:
        lines = [f'{self.path}: {self.bytes:,} bytes']
        lines.append(f'Parity: {self.parity}' if self.parity else 'Parity: not run here')
        if self.latency_ms is not None:
            lines.append(f'Latency: {self.latency_ms:.2f} ms (one thread, median of '
                         f'{LATENCY_RUNS}, without pre-processing)')
        return '\n'.join(lines + ([self.note] if self.note else []))


def export_model(config: Union[str, Path], checkpoint: Union[str, Path], backend: str,
                 image: Union[str, Path], out: Union[str, Path], *, half: bool = False,
                 dynamic: Sequence[str] = (), batch_size: int = 1,
                 verify: Optional[Union[str, Path]] = None, form: str = '',
                 cfg_options: Optional[dict] = None) -> Exported:
    """Fold a trained model, export it and compare the predictions before the file gets its name.

    Args:
        config: The checkpoint's config.
        checkpoint: Trained or folded weights.
        backend: A key of ``FORMATS``.
        image: A picture, which the config's test pipeline turns into the example input.
        out: Directory for the result, which is named after the config.
        half: Export in float16.
        dynamic: Axes to leave open: 'batch', 'size'.
        batch_size: Number of images in the example input.
        verify: A directory of more pictures to compare the predictions on.
        form: Form of a detector's outputs, one of :data:`.formats.FORMS`; by default the backend's
            own.
        cfg_options: Changes to the config.

    Raises:
        CheckpointError: The checkpoint is damaged or of another model.
        ExportError: An option is not supported, a package is missing, a picture is unreadable, or
            the model cannot be expressed in the format.
        ParityError: The exported model's predictions differ. The model is kept in a directory that
            ends in ``.failed``.
    """
    return export_trained(Trained(config, checkpoint, cfg_options), backend, image, out, half=half,
                          dynamic=dynamic, batch_size=batch_size, verify=verify, form=form)


def export_trained(trained: Trained, backend: str, image: Union[str, Path], out: Union[str, Path],
                   *, half: bool = False, dynamic: Sequence[str] = (), batch_size: int = 1,
                   verify: Optional[Union[str, Path]] = None, form: str = '') -> Exported:
    """See :func:`export_model`; what cannot be exported is refused before the model is loaded."""
    chosen = check_options(backend, dynamic, half, form)
    require(chosen)
    if verify and not chosen.runtime:
        raise ExportError(f'--verify: {backend} cannot be run here, so there is nothing to compare')
    if batch_size < 1:
        raise ExportError(f'the batch size must be at least 1, got {batch_size}')
    pictures = [Path(image)] + (list_pictures(verify) if verify else [])
    read_picture(image)
    model, samples = trained.model, trained.samples
    if form and samples.task != 'detection':
        raise ExportError(f'--form {form} is for detectors; {trained.config} is for {samples.task}')
    example = samples(pictures[0])['inputs'][0].float()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    name = f'{trained.name}_{backend}'
    with partial_directory(out, name) as folder:
        job = ExportJob(
            backend, samples.task, *trained.folded(folder),
            image=example.expand(batch_size, -1, -1, -1).contiguous(),
            out=folder / f'{name}{chosen.suffix}', half=half, dynamic=list(dynamic),
            classes=samples.classes, source=str(pictures[0]), form=form)
        path = write_file(job)
        shutil.rmtree(folder / 'folded')
        result = Exported(path, _bytes(folder))
        (folder / f'{name}.py').write_text(job.cfg.pretty_text, encoding='utf-8')
        if chosen.runtime:
            exported = ExportedModel.load(path, model.data_preprocessor, threads=1)
            result.parity = verify_parity(model, exported, samples, pictures)
            result.parity.check()
            if not chosen.stand_in:
                result.latency_ms = latency(exported, job.image)
            result.note = chosen.stand_in
        result.path = out / path.relative_to(folder)
    return result


def write_file(job: ExportJob, module: str = '', **options: Any) -> Path:
    """Write a backend's file; if a converter cannot express a head, one line names it.

    Args:
        job: What to export.
        module: A module of :mod:`.backends` other than the backend's own.
        options: Arguments of its ``export``, for quantization.
    """
    module = module or FORMATS[job.backend].module
    try:
        return import_module(f'.backends.{module}', __package__).export(job, **options)
    except UnknownHeadError as error:
        # mmdeploy is no alternative to the formats for phones, nor to int8.
        more = job.backend in ('onnx', 'openvino') and not options
        raise ExportError(
            f'{error}' + more * '; mmdeploy supports more heads: --backend onnxruntime') from error
    except ExportError:
        raise
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        head = getattr(job.model, 'bbox_head', None) or getattr(job.model, 'decode_head', job.model)
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(f'{job.backend} cannot express the head {type(head).__name__} or a layer '
                          f'before it: {reason[0]}') from error


def verify_parity(model: BaseModel, exported: ExportedModel, samples: Samples,
                  pictures: Sequence[Path]) -> Parity:
    """Compare an exported file with the PyTorch model on pictures."""
    test_cfg: Dict[str, Any] = model.test_cfg if samples.task == 'detection' else {}
    return compare((compare_answers(model, exported, samples, path) for path in pictures),
                   FLOAT16 if exported.interface.half else FLOAT32,
                   test_cfg.get('score_thr', 0.), test_cfg.get('max_per_img', 0))


@torch.no_grad()
def compare_answers(model: BaseModel, exported: ExportedModel, samples: Samples,
                    picture: Path) -> Pair:
    """Run both models on a picture and compare the maps before their predictions.

    A segmentor's labels are compared at the input's size. PyTorch would upsample the logits to the
    picture's size before it takes the best class, which a label map cannot reproduce.
    """
    data = samples(picture)
    if samples.task == 'segmentation':
        for sample in data['data_samples']:
            sample.set_metainfo(dict(ori_shape=sample.img_shape))
    ready = model.data_preprocessor(copy.deepcopy(data))
    inputs, sample = ready['inputs'], ready['data_samples'][0]
    image, maps, note = data['inputs'][0][None].float(), None, ''
    try:
        if is_of_phones(exported.interface):
            maps = match_maps(*raw_outputs(model, image, exported.run(image), exported.interface))
        else:
            maps = match_maps(tensors_of(model(inputs, [sample], mode='tensor')),
                              exported.prediction_maps(image))
    except ValueError as error:
        if FORMATS[exported.interface.backend].module != 'mmdeploy_format':
            raise ParityError(f'{picture}: {error}') from None
        note = str(error)  # mmdeploy supports other heads
    actual = exported.test_step(copy.deepcopy(data))[0]
    expected = (exported.answer(best_classes(model, image), copy.deepcopy(data['data_samples'][0]))
                if exported.interface.form else model.test_step(copy.deepcopy(data))[0])
    return Pair(str(picture), expected, actual, maps, note,
                partial(find_ties, model, inputs, sample))


def latency(exported: ExportedModel, image: torch.Tensor) -> float:
    """Median milliseconds of one run, after three warm-up runs."""
    array = exported.normalize(image).numpy()
    times = []
    for _ in range(3 + LATENCY_RUNS):
        start = time.perf_counter()
        exported.runtime(array)
        times.append(1000 * (time.perf_counter() - start))
    return median(times[3:])


@contextmanager
def partial_directory(out: Path, name: str) -> Iterator[Path]:
    """A directory whose content moves to ``out`` if the block succeeds.

    After a ParityError it is kept as ``NAME.failed``; after any other error it is removed.
    """
    folder, failed = out / f'{name}.{os.getpid()}.partial', out / f'{name}.failed'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    except ParityError as error:
        shutil.rmtree(failed, ignore_errors=True)
        folder.rename(failed)
        raise ParityError(f'{error}. The files are kept in {failed}') from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(failed, ignore_errors=True)
    for path in folder.iterdir():
        target = out / path.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(path, target)
    folder.rmdir()


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
