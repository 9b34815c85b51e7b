"""Write predictions as files for other programs."""

import json
import re
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple, Type

import numpy as np
from PIL import Image

from ..export.errors import ExportError
from ..utils.fileio import atomic_path
from ..utils.pictures import write_picture
from .frames import Frame

__all__ = ['KINDS', 'PredictionFiles', 'open_files']

Box = Tuple[float, float, float, float]


class PredictionFiles:
    """Base of the classes that write files of one kind.

    Args:
        out: Directory of all results.
        classes: Names of the classes.
        palette: RGB of each class.
        score_thr: Boxes with lower scores are left out.
    """

    task = 'detection'

    def __init__(self, out: Path, classes: Sequence[str], palette: Sequence[Sequence[int]],
                 score_thr: float) -> None:
        self.out, self.classes, self.palette = out, classes, palette
        self.score_thr = score_thr

    def add(self, frame: Frame, sample: Any) -> None:
        """Take the predictions of a picture."""
        raise NotImplementedError

    def close(self) -> None:
        """Write files about all pictures."""

    def boxes(self, frame: Frame, sample: Any) -> List[Tuple[Box, int, float]]:
        """(x1, y1, x2, y2) within the picture, label and score of each box."""
        height, width = frame.picture.shape[:2]
        found = sample.pred_instances.cpu().numpy()
        boxes = np.clip(found.bboxes, 0, [width, height, width, height])
        keep = (found.scores >= self.score_thr) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        return [((x1, y1, x2, y2), label, score) for (x1, y1, x2, y2), label, score in zip(
            boxes[keep].tolist(), found.labels[keep].tolist(), found.scores[keep].tolist())]


class CocoFile(PredictionFiles):
    """``predictions.json``: images, annotations with scores, and categories in COCO's format."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.images: List[Dict[str, Any]] = []
        self.annotations: List[Dict[str, Any]] = []

    def add(self, frame: Frame, sample: Any) -> None:
        """Take the predictions of a picture."""
        height, width = frame.picture.shape[:2]
        self.images.append(dict(id=len(self.images) + 1, file_name=frame.file_name, width=width,
                                height=height))
        for (x1, y1, x2, y2), label, score in self.boxes(frame, sample):
            self.annotations.append(dict(
                id=len(self.annotations) + 1, image_id=self.images[-1]['id'],
                category_id=label + 1, bbox=[x1, y1, x2 - x1, y2 - y1],
                area=(x2 - x1) * (y2 - y1), iscrowd=0, score=score))

    def close(self) -> None:
        """Write the file."""
        categories = [dict(id=i + 1, name=name) for i, name in enumerate(self.classes)]
        with atomic_path(_made(self.out) / 'predictions.json') as path:
            path.write_text(json.dumps(dict(images=self.images, annotations=self.annotations,
                                            categories=categories)), encoding='utf-8')


class YoloFiles(PredictionFiles):
    """``labels/NAME.txt``: class, center x, center y, width and height, relative to the picture.

    ``labels/classes.txt`` lists the names of the classes.
    """

    def add(self, frame: Frame, sample: Any) -> None:
        """Write the boxes of a picture; an empty file where there are none."""
        height, width = frame.picture.shape[:2]
        lines = [f'{label} {(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f} '
                 f'{(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}\n'
                 for (x1, y1, x2, y2), label, _ in self.boxes(frame, sample)]
        with atomic_path(_made(self.out / 'labels') / f'{frame.name}.txt') as path:
            path.write_text(''.join(lines), encoding='utf-8')

    def close(self) -> None:
        """Write the names of the classes."""
        with atomic_path(_made(self.out / 'labels') / 'classes.txt') as path:
            path.write_text(''.join(f'{" ".join(name.split())}\n' for name in self.classes),
                            encoding='utf-8')


class Crops(PredictionFiles):
    """``crops/NAME_0_CLASS.png``: the content of each box."""

    def add(self, frame: Frame, sample: Any) -> None:
        """Write the crops of a picture."""
        for i, ((x1, y1, x2, y2), label, _) in enumerate(self.boxes(frame, sample)):
            crop = frame.picture[int(y1):int(np.ceil(y2)), int(x1):int(np.ceil(x2))]
            name = re.sub(r'[^\w.-]+', '_', self.classes[label])  # it is not a path
            write_picture(_made(self.out / 'crops') / f'{frame.name}_{i}_{name[:80]}.png', crop)


class LabelMasks(PredictionFiles):
    """``masks/NAME.png``: the label of each pixel, with the classes' colors as palette."""

    task = 'segmentation'

    def add(self, frame: Frame, sample: Any) -> None:
        """Write the label mask of a picture."""
        labels = sample.pred_sem_seg.data.squeeze(0).cpu().numpy().astype(np.uint8)
        image = Image.fromarray(labels, mode='P')
        image.putpalette(np.asarray(self.palette, np.uint8).reshape(-1).tolist())
        with atomic_path(_made(self.out / 'masks') / f'{frame.name}.png') as path:
            image.save(path, format='PNG')


KINDS: Dict[str, Type[PredictionFiles]] = dict(coco=CocoFile, yolo=YoloFiles, crops=Crops,
                                               masks=LabelMasks)


def open_files(kinds: Sequence[str], predictor: Any, out: Path) -> List[PredictionFiles]:
    """The files to write for a model.

    Args:
        kinds: Names in :data:`KINDS`.
        predictor: A :class:`mobileone_mm.commands.predict.Predictor`.
        out: Directory of all results.

    Raises:
        ExportError: A kind does not exist for the model's task.
    """
    task, meta = predictor.samples.task, predictor.visualizer.dataset_meta
    for kind in kinds:
        if KINDS[kind].task != task:
            fitting = ', '.join(name for name, each in KINDS.items() if each.task == task)
            raise ExportError(f'--save {kind} is for {KINDS[kind].task}, but the model is for '
                              f'{task}: choose from {fitting}')
    return [KINDS[kind](out, meta['classes'], meta['palette'], predictor.score_thr)
            for kind in dict.fromkeys(kinds)]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
