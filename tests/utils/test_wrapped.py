"""Inner data sets are found in configs and in what mmengine builds from them."""

from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset

from mobileone_mm.utils.wrapped import count_samples, inner_datasets, unwrapped


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


def test_the_data_sets_inside():
    one, two = dict(type='A'), dict(type='B')
    both = dict(type='ConcatDataset', datasets=[one, dict(type='RepeatDataset', dataset=two)])
    assert list(unwrapped(both)) == [one, two]
    assert list(unwrapped(one)) == [one] and list(unwrapped({})) == []


def test_counts_are_those_of_what_mmengine_builds():
    class Five(BaseDataset):
        def load_data_list(self):
            return [dict(i=i) for i in range(5)]

    one = dict(type='Five')
    cases = [
        (RepeatDataset(Five(), 3), dict(type='RepeatDataset', times=3, dataset=one)),
        (RepeatDataset(Five(), 3), dict(type=RepeatDataset, times=3, dataset=one)),
        (ConcatDataset([Five(), Five()]), dict(type='mmengine.ConcatDataset', datasets=[one] * 2)),
    ]
    for built, described in cases:
        assert count_samples(described, lambda leaf: 5) == len(built)


def test_a_count_that_is_not_known():
    chosen = dict(type='ClassBalancedDataset', dataset=dict(type='A'), oversample_thr=.1)
    assert count_samples(chosen, lambda leaf: 5) is None
    assert count_samples(dict(type='ConcatDataset', datasets=[dict(type='A'), chosen]),
                         lambda leaf: 5) is None
    assert count_samples({}, lambda leaf: 5) is None
    repeated = dict(type='RepeatDataset', times=2, dataset=dict(type='A'))
    assert count_samples(repeated, lambda leaf: None) is None
