"""A picture that cannot be read is named in one line, and the training so far is saved."""

import pytest
import torch
from mmengine.registry import DATASETS
from toy_classifier import ToyDataset
from toy_runs import files, train

from mobileone_mm.engine import DatasetError, find_checkpoint


@DATASETS.register_module()
class BrokenDataset(ToyDataset):
    """The toy data set with one picture that cannot be read."""

    broken = 7

    def load_data_list(self):
        return [dict(info, img_path=f'img/{i}.jpg') for i, info in
                enumerate(super().load_data_list())]

    def prepare_data(self, idx):
        if idx == self.broken:
            raise OSError('image file is truncated\n(3 bytes not processed)')
        return super().prepare_data(idx)


@pytest.mark.parametrize('workers', [0, 1])
def test_broken_picture(tmp_path, monkeypatch, workers):
    kwargs = dict(hook=False, options={
        'train_dataloader.dataset.type': 'BrokenDataset', 'train_dataloader.batch_size': 2,
        'train_dataloader.num_workers': workers})
    monkeypatch.setattr(BrokenDataset, 'broken', None)
    expected = train(tmp_path / 'whole', **kwargs).model.state_dict()

    monkeypatch.setattr(BrokenDataset, 'broken', 7)
    with pytest.raises(DatasetError) as caught:
        train(tmp_path / 'cut', **kwargs)
    message = str(caught.value)
    assert message.startswith('cannot load sample 7 (img/7.jpg): OSError: image file is truncated '
                              '(3 bytes not processed). The ')
    assert '\n' not in message
    assert list(files(tmp_path / 'cut')) == ['interrupted.pth']
    checkpoint = find_checkpoint(tmp_path / 'cut')
    done = torch.load(checkpoint, weights_only=False)['meta']['iter']
    assert 0 < done < 12 and f'The {done} iterations before are saved' in message

    monkeypatch.setattr(BrokenDataset, 'broken', None)  # repaired
    resumed = train(tmp_path / 'cut', checkpoint, **kwargs).model.state_dict()
    assert all(torch.equal(resumed[key], value) for key, value in expected.items())
