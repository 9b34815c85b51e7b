"""Check which goals were met."""

from typing import Iterator, List, NamedTuple

__all__ = ['GOALS', 'judge_steps']


class Goal(NamedTuple):
    """An upper limit for a column of the section 'steps'."""

    archs: tuple
    column: str
    most: float


GOALS = (
    Goal(('s0', ), 'time/plain', 1.3),
    Goal(('s0', ), 'time/textbook', .4),
    Goal(('s0', ), 'peak/plain', .6),
    Goal(('s1', 's2', 's3', 's4'), 'time/plain', 1.1),
    Goal(('s1', 's2', 's3', 's4'), 'time/textbook', .9),
)
# Small batches are bound by launches from the host, so they are judged in a CUDA graph.
JUDGED = ((32, 'graph'), (128, 'graph'), (128, 'eager'))


def judge_steps(rows: List[dict], net: str) -> Iterator[dict]:
    """A row for each goal, and each setting of ``net`` in the rows of the section 'steps'."""
    for row in rows:
        if row['net'] != net or (row['batch'], row['mode']) not in JUDGED:
            continue
        for goal in GOALS:
            if row['arch'] not in goal.archs:
                continue
            value = row.get(goal.column)
            verdict = 'not measured' if value is None else 'met' if value <= goal.most else 'MISSED'
            yield dict(arch=row['arch'], batch=row['batch'], precision=row['precision'],
                       mode=row['mode'], net=net, goal=f'{goal.column} <= {goal.most}',
                       value=value if value is not None else row.get('note', ''), verdict=verdict)
