"""The demo's report: what counts as a failure."""

from pathlib import Path

import pytest

from mobileone_mm.demo import Report, run_demo


def report(trained=(.4, .8), folded=(.4, .8)):
    trained, folded = (dict(zip(('mAP', 'mAP_50'), values)) for values in (trained, folded))
    return Report('mAP_50', trained, folded, least=.6, picture=Path('x.png'))


@pytest.mark.parametrize('folded, problems', [
    ((.4, .8), []),
    ((.40005, .8), []),
    ((.4002, .8), ['folding changed mAP from 0.400000 to 0.400200']),
    ((float('nan'), .8), ['folding changed mAP from 0.400000 to nan']),
    ((.4, .5), ['mAP_50 of the folded model is 0.500, expected at least 0.6',
                'folding changed mAP_50']),
])
def test_problems(folded, problems):
    found = report(folded=folded).problems()
    assert len(found) == len(problems)
    assert all(part in text for part, text in zip(problems, found))


def test_an_untrained_model_is_a_problem_even_if_folding_changes_nothing():
    assert len(report(trained=(.1, .2), folded=(.1, .2)).problems()) == 2


def test_unknown_task(tmp_path):
    with pytest.raises(ValueError, match="got 'pose'"):
        run_demo('pose', tmp_path, tmp_path)
