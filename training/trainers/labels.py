"""Rows for heads: turns with a number each to be told, on their last token or on all of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from sparring.storage.records import AdvantageRow, GroupRow

from ..groups import Place
from ..pack import pack
from ..rows import Row
from .base import Made, Played

if TYPE_CHECKING:
    from ..losses.base import Loss

At = Literal["ends", "tokens", "texts"]


def told(played: Played, label_of: Mapping[Place, float], losses: Mapping[str, Loss], name: str) -> Made:
    """Rows that train these turns, and a record of each with its label as advantage. No rows for no turn.

    Groups are a role's turns at one node; a role's coefficients add up to its weight.
    """
    groups: list[GroupRow] = []
    records: list[AdvantageRow] = []
    for (role, node), places in _by_node(played, label_of).items():
        groups.append(GroupRow(len(groups), role, node, "step", len(places)))
        records += [_told(played, place, len(groups) - 1, label_of[place]) for place in places]
    packed = pack(played.episodes, records, played.roles, losses, lambda row: name)
    return Made(packed.rows, groups, packed.advantages, figures={"turns": float(len(records))})


def labelled(
    played: Played, label_of: Mapping[Place, float], losses: Mapping[str, Loss], name: str, at: At, stream: str
) -> Made:
    """``told``, with each turn's label in the stream of that name.

    ``at``: ends (only a turn's last token is trained, with the whole turn's share), tokens (all), texts (all, every
    turn in a row of its own, so that sums and means over a row are the turn's).
    """
    made = told(played, label_of, losses, name)
    made.figures |= {"label": math.fsum(label_of.values()) / len(label_of)} if label_of else {}
    made.rows = [_labelling(row, label_of, stream) for row in made.rows]
    if at == "ends":
        made.rows = [ends(row) for row in made.rows]
    elif at == "texts":
        made.rows = [text for row in made.rows for text in texts(row)]
    return made


def ends(row: Row) -> Row:
    """Each turn's whole share on its last token."""
    coefficient = [0.0] * len(row.token_ids)
    for span in row.spans:
        coefficient[span.stop - 1] = math.fsum(row.coefficient_T[span.start : span.stop])
    return replace(row, coefficient_T=coefficient)


def texts(row: Row) -> Iterator[Row]:
    """One row per trained turn, cut after it; what was said before is context."""
    for span in row.spans:
        coefficient = [0.0] * span.start + row.coefficient_T[span.start : span.stop]
        streams = {name: values[: span.stop] for name, values in row.streams.items()}
        yield replace(
            row, token_ids=row.token_ids[: span.stop], coefficient_T=coefficient, streams=streams, spans=(span,)
        )


def after(row: Row, stream: str) -> Row:
    """The row as a head that judges reads it: every mark one token later, and only the one stream.

    A head sees the state a token was drawn from, which has not read that token; the next token's state has. After the
    row's last token one more stands, which nothing reads. Behaviour log-probs are left out: nothing is compared here.
    """
    ids = [*row.token_ids, row.token_ids[-1]]
    moved = {stream: [0.0, *row.streams[stream]]}
    return replace(row, token_ids=ids, coefficient_T=[0.0, *row.coefficient_T], streams=moved)


def _by_node(played: Played, label_of: Mapping[Place, float]) -> dict[tuple[str, str], list[Place]]:
    found: defaultdict[tuple[str, str], list[Place]] = defaultdict(list)
    for place in sorted(label_of):
        turn = played.episodes[place.episode].turns[place.turn]
        found[turn.author, turn.node].append(place)
    return dict(found)


def _told(played: Played, place: Place, group: int, label: float) -> AdvantageRow:
    turn = played.episodes[place.episode].turns[place.turn]
    weight = played.roles[turn.author].weight
    return AdvantageRow(*place, turn.author, group, None, label, weight, len(turn.token_ids), 0.0)


def _labelling(row: Row, label_of: Mapping[Place, float], stream: str) -> Row:
    label: list[float] = [0.0] * len(row.token_ids)
    for span in row.spans:
        label[span.start : span.stop] = [label_of[Place(span.episode, span.turn)]] * (span.stop - span.start)
    return row.having(**{stream: label})


def in_unit(found: Mapping[Place, float | None]) -> tuple[dict[Place, float], int]:
    """Those labels that are chances, and how many others were there."""
    valued = {place: value for place, value in found.items() if value is not None}
    inside = {place: value for place, value in valued.items() if 0.0 <= value <= 1.0}
    return inside, len(valued) - len(inside)
