"""Inner data sets are found in configs and in what mmengine builds of them."""

from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset

from mobileone_mm.utils.wrapped import inner_datasets


def leaf():
    return BaseDataset(lazy_init=True, serialize_data=False)


def test_configs():
    one, two = dict(type='A'), dict(type='B', pipeline=[])
    assert inner_datasets(one) == []
    assert inner_datasets(dict(type='RepeatDataset', dataset=one)) == [one]
    assert inner_datasets(dict(type='ConcatDataset', datasets=[one, two])) == [one, two]
    assert inner_datasets(dict(type='X', dataset=None, datasets=None)) == []


def test_built_ones():
    one, two = leaf(), leaf()
    assert inner_datasets(one) == []
    assert inner_datasets(RepeatDataset(one, 2, lazy_init=True)) == [one]
    assert inner_datasets(ConcatDataset([one, two], lazy_init=True)) == [one, two]
