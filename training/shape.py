"""Between scoring and training: estimators that spread a turn's credit over its tokens see the rows as traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .advantages.base import Floats, TokenAdvantage, Trace
from .rows import ADVANTAGE, PROCESS, REFERENCE, RETURN, REWARD, START, VALUE, Row


def shaped(rows: Sequence[Row], shapes: Mapping[str, TokenAdvantage]) -> list[Row]:
    """Rows with per-token advantages (and returns) where their loss has an estimator that gives them.

    All rows of a loss are handed over together, so an estimator may whiten over the step.
    """
    found = list(rows)
    for name, estimator in shapes.items():
        places = [at for at, row in enumerate(rows) if row.loss == name]
        if not places:
            continue
        spread = estimator.shape([trace(rows[at]) for at in places])
        for at, new in zip(places, spread, strict=True):
            streams = {ADVANTAGE: _over(rows[at], new.advantage_n)}
            if new.return_n is not None:
                streams[RETURN] = _over(rows[at], new.return_n)
            found[at] = rows[at].having(**streams)
    return found


def trace(row: Row) -> Trace:
    """The trained tokens of a row, without what stands between them. Turns and groups are numbered as the row says."""
    at = row.trained
    turn_of = {place: number for number, span in enumerate(row.spans) for place in range(span.start, span.stop)}

    def taken(name: str) -> Floats | None:
        return np.asarray([row.streams[name][place] for place in at]) if name in row.streams else None

    def known(name: str) -> Floats:
        column = taken(name)
        return np.zeros(len(at)) if column is None else column

    return Trace(
        row.role,
        known(REWARD),
        known(ADVANTAGE),
        np.asarray([row.coefficient_T[place] for place in at]),
        known(START),
        taken(REFERENCE),
        taken(VALUE),
        taken(PROCESS),
        np.asarray([turn_of[place] for place in at]) if row.spans else None,
        np.asarray([row.spans[turn_of[place]].group for place in at]) if row.spans else None,
    )


def _over(row: Row, values: Floats) -> list[float]:
    stream = [0.0] * len(row.token_ids)
    for at, value in zip(row.trained, values.tolist(), strict=True):
        stream[at] = value
    return stream
