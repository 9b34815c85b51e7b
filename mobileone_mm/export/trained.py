"""A trained checkpoint: its model and its folded form, for any number of exports."""

import copy
from functools import cached_property
from pathlib import Path
from typing import Optional, Tuple, Union

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import nn

from ..folding.deployed_files import deployed_config
from ..folding.models import build_model, load_weights
from ..folding.reparameterize import holds_unfolded, reparameterize
from ..folding.verify import textbook
from ..utils.checkpoint_files import is_folded
from ..utils.configs import read_config
from ..utils.libraries import TASKS
from .errors import ExportError
from .samples import Samples

__all__ = ['Trained', 'load_trained']


class Trained:
    """A checkpoint that is loaded on first use, and folded once for all exports.

    Args:
        config: The checkpoint's config.
        checkpoint: Trained or folded weights.
        cfg_options: Changes to the config.

    Attributes:
        name: What files exported from it are named after.
    """

    def __init__(self, config: Union[str, Path], checkpoint: Union[str, Path],
                 cfg_options: Optional[dict] = None) -> None:
        self.config, self.checkpoint, self.cfg_options = config, checkpoint, cfg_options
        self.name = Path(config).stem

    @property
    def cfg(self) -> Config:
        """The config with its changes."""
        return self._loaded[0]

    @property
    def model(self) -> BaseModel:
        """The model as it was trained; see :func:`load_trained`."""
        return self._loaded[1]

    @cached_property
    def samples(self) -> Samples:
        """Turns pictures into its inputs."""
        return Samples(self.cfg)

    def folded(self, folder: Path) -> Tuple[nn.Module, Config, Path]:
        """A folded copy of the model, its config and its weights on disk, in ``folder/folded``."""
        config, weights, folded = self._folded
        path = folder / 'folded' / 'model.pth'
        path.parent.mkdir()
        torch.save(dict(meta={}, state_dict=weights), path)
        return copy.deepcopy(folded), config, path

    @cached_property
    def _loaded(self) -> Tuple[Config, BaseModel]:
        return load_trained(self.config, self.checkpoint, self.cfg_options)

    @cached_property
    def _folded(self) -> Tuple[Config, dict, nn.Module]:
        config = self.cfg if is_folded(self.model.state_dict()) else deployed_config(self.cfg)
        folded = (reparameterize(self.model) if holds_unfolded(self.model)
                  else copy.deepcopy(self.model))
        # Fold norms in neck and head too. The weights keep them, for models built from the config.
        weights = folded.state_dict()
        return config, weights, reparameterize(folded, inplace=True, fuse_conv_bn=True)


def load_trained(config: Union[str, Path], checkpoint: Union[str, Path],
                 cfg_options: Optional[dict] = None) -> Tuple[Config, BaseModel]:
    """Load a config and build its model with the checkpoint's weights, in eval mode.

    The model computes its branches one by one; exports are folded and compared with it.

    Raises:
        CheckpointError: The checkpoint is damaged or of another model.
        ExportError: The config is for neither mmdet nor mmseg.
        FileNotFoundError: There is no such file.
    """
    cfg = read_config(config, cfg_options)
    if cfg.get('default_scope') not in TASKS:
        raise ExportError(f'{config} has default_scope {cfg.get("default_scope")!r}; detectors '
                          '(mmdet) and segmentors (mmseg) can be exported')
    model = build_model(cfg)
    load_weights(model, checkpoint)
    return cfg, textbook(model).eval()
