"""The configs in docs/other_models.md: the tests run what users copy."""

import re
from pathlib import Path
from typing import Callable, Dict, Iterator, Tuple

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from paths import ROOT

from mobileone_mm.folding.reparameterize import reparameterize
from mobileone_mm.folding.verify import verify_on_batch

PAGE = ROOT / 'docs' / 'other_models.md'


def doc_configs(library: str) -> Dict[str, str]:
    """Name of the stock config -> text of each config whose base is of ``library``."""
    blocks = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
    found = {}
    for block in blocks:
        base = re.match(rf"_base_ = '{library}::([^/]+)/", block)
        if base:
            found[base.group(1)] = block
    return found


def load(text: str, folder: Path) -> Config:
    """Parse a config as a user's own file."""
    path = folder / 'own_config.py'
    path.write_text(text)
    return Config.fromfile(path)


def train_and_fold(model: BaseModel, batch: dict, training: bool,
                   randomize: Callable) -> Iterator[Tuple]:
    """Check a training step and the folded model; returns both models' predictions.

    Args:
        model: Its batch norms are randomized after the step.
        batch: A batch of a data loader.
        training: Whether the preprocessor augments the batch for the training step.
        randomize: The fixture.
    """
    data = model.data_preprocessor(batch, training)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.abs().sum() > 0 for p in model.backbone.stage4[0].parameters())

    randomize(model.backbone)
    model.eval()
    folded = reparameterize(model)
    assert folded.backbone.deploy and not model.backbone.deploy
    verify_on_batch(model, folded, batch)
    with torch.no_grad():
        return zip(*(side.test_step(batch) for side in (model, folded)))
