"""The files and classes in the config of one data set."""

import inspect
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from mmengine.registry import DATASETS

# Data set class -> its name for tools/prepare_data.py
PREPARED = {'CocoDataset': 'coco', 'PascalVOCDataset': 'voc12aug', 'ADE20KDataset': 'ade20k'}
DOWNLOADS = {
    'coco': 'COCO 2017 is http://images.cocodataset.org/zips/train2017.zip, .../val2017.zip and '
            'http://images.cocodataset.org/annotations/annotations_trainval2017.zip; unpacked, '
            'data/coco holds train2017, val2017 and annotations.',
    'voc12aug': 'Pascal VOC 2012 and SBD go to data/VOCdevkit.',
    'ade20k': 'ADEChallengeData2016 goes to data/ade.',
}

# Subclasses of CocoDataset that read other fields or sort the categories themselves
OTHER_FORMATS = {'CocoPanopticDataset', 'LVISV05Dataset', 'Objects365V1Dataset',
                 'Objects365V2Dataset'}


class Source:
    """The files and classes in the config of one data set.

    Args:
        cfg: The config of a data set that is not a wrapper.
        scope: The config's ``default_scope``.

    Attributes:
        root: The ``data_root``.
        ann_file: The annotation file, or None.
        folders: ``data_prefix`` key -> folder.
        classes: The class names, or None if they are not known without loading the data.
    """

    def __init__(self, cfg: Dict[str, Any], scope: Optional[str]) -> None:
        self._cfg = cfg
        self.type: str = cfg['type'] if isinstance(cfg['type'], str) else cfg['type'].__name__
        self._class = _find_class(cfg['type'], scope)
        self.root = Path(cfg.get('data_root') or '')
        ann_file = cfg.get('ann_file')
        self.ann_file = self.root / ann_file if ann_file else None
        prefix = self.option('data_prefix') or cfg.get('split') or {}
        if isinstance(prefix, str):  # mmpretrain's
            prefix = dict(img_path=prefix)
        self.folders = {key: self.root / folder for key, folder in prefix.items()
                        if isinstance(folder, str)}
        self.classes: Optional[Tuple[str, ...]] = self._find_classes()

    @property
    def is_remote(self) -> bool:
        """Whether the files are not on a local disk."""
        return '://' in str(self._cfg.get('data_root') or '') or bool(self._cfg.get('backend_args'))

    @property
    def is_coco(self) -> bool:
        """Whether the annotations are boxes in COCO's format."""
        if self.ann_file is None:
            return False
        if self._class is None:
            return self.ann_file.suffix == '.json'
        names = {cls.__name__ for cls in self._class.__mro__}
        return 'CocoDataset' in names and not names & OTHER_FORMATS

    @property
    def ignores_exif(self) -> bool:
        """Whether images are loaded as stored, without EXIF's rotation."""
        return any(isinstance(step, dict) and 'ignore_orientation' in step.get('color_type', '')
                   for step in self._cfg.get('pipeline') or [])

    def replace_annotations(self, path: Path) -> None:
        """Make the data set's config read another annotation file."""
        self._cfg['ann_file'] = str(path.absolute())

    @property
    def images(self) -> Optional[Path]:
        """The folder of the images."""
        return self.folders.get('img', self.folders.get('img_path'))

    def option(self, name: str) -> Any:
        """An option of the data set, from its config or its class's default."""
        if name in self._cfg or self._class is None:
            return self._cfg.get(name)
        for cls in self._class.__mro__:  # a subclass often passes the rest on as **kwargs
            own = inspect.signature(cls.__init__)  # type: ignore[misc]
            parameter = own.parameters.get(name)
            if parameter is not None and parameter.default is not inspect.Parameter.empty:
                return parameter.default
        return None

    def samples(self) -> Optional[List[Dict[str, Any]]]:
        """What mmsegmentation's data set lists; None if it belongs to another library."""
        if not hasattr(self._class, 'get_label_map'):
            return None
        # mmengine marks what a config inherits from another library with its scope.
        options = {k: v for k, v in self._cfg.items() if k not in ('type', '_scope_')}
        dataset = self._class(**{**options, 'pipeline': [], 'lazy_init': True})  # type: ignore
        indices, samples = options.get('indices'), dataset.load_data_list()
        if isinstance(indices, int):
            return samples[:indices] if indices >= 0 else samples[indices:]
        return samples if indices is None else [samples[i] for i in indices]

    def loads_labels(self) -> bool:
        """Whether the pipeline reads label maps with mmsegmentation's own transform."""
        kinds = [str(step.get('type')) for step in self._cfg.get('pipeline') or ()]
        return 'LoadAnnotations' in kinds or 'mmseg.LoadAnnotations' in kinds

    def missing(self) -> List[Path]:
        """Files and folders that the config names but that do not exist."""
        paths = [self.root, *([self.ann_file] if self.ann_file else []), *self.folders.values()]
        return [path for path in dict.fromkeys(paths) if not path.exists()]

    def advice(self) -> str:
        """Where to get the data, and how to point the config at them."""
        name = PREPARED.get(self.type)
        how = '' if name is None else (
            f'  {DOWNLOADS[name]}\n  python tools/prepare_data.py {name} --check-only\n'
            '  says what to download and where to put it; without --check-only it unpacks.\n')
        return how + ('  If the data are elsewhere: --cfg-options data_root=DIR moves all paths '
                      "below the config's data_root.")

    def _find_classes(self) -> Optional[Tuple[str, ...]]:
        for meta in (self._cfg.get('metainfo'), getattr(self._class, 'METAINFO', None)):
            classes = (meta or {}).get('classes') if isinstance(meta, (dict, type(None))) else None
            if isinstance(classes, str):
                raise ValueError(f'metainfo.classes is the string {classes!r}: expected a tuple of '
                                 f'names, such as ({classes!r}, )')
            if classes:
                return tuple(classes)
        return None


def _find_class(kind: Any, scope: Optional[str]) -> Optional[type]:
    if not isinstance(kind, str):
        return kind
    return DATASETS.get(f'{scope}.{kind}' if scope and '.' not in kind else kind)
