"""Preference pairs of a group: which two turns, and the rows of either side from the point where they part."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field, Strict

from sparring.envs.types import Episode, Turn
from sparring.scenarios.errors import ScenarioError
from sparring.storage.records import AdvantageRow, GroupRow

from ..groups import Group, Member, Place
from ..pack import Chain, conversation, lay
from ..rows import Row
from .base import Made, Played
from .picks import Where, groups_of, recorded

if TYPE_CHECKING:
    from sparring.scenarios.schema import RoleSpec

Level = Literal["sequence", "step"]
VISITS = "visits"


class Pairing(Where):
    """Which pairs: of turns in one group whose combined rewards differ by more than ``gap``.

    ``pairs``: best_worst (one per group), closest (the one pair whose texts differ least, SPaR, arXiv 2412.11605), all
    (each of the better with each of the worse, the ``at_most`` with the largest difference per group). ``level``:
    sequence (everything the role said since the two share no turn; they must begin with the same prompt) or step (the
    turn alone, from the first token that differs; all that was read before must be the same). ``demonstrations``: given
    answers take part too, as the better side of a pair. ``across``: turns of different nodes are compared too, as of
    attempts that end after one step and after several.
    """

    pairs: Literal["best_worst", "closest", "all"] = "best_worst"
    level: Level = "sequence"
    gap: float = Field(default=0.0, ge=0)
    at_most: int = Field(default=8, ge=1)
    demonstrations: Annotated[bool, Strict()] = False
    across: Annotated[bool, Strict()] = False


class Pair(NamedTuple):
    """Rows of both sides; their coefficients are 1 on the tokens that are trained."""

    chosen: Row
    rejected: Row


@dataclass(frozen=True)
class Found:
    """The pairs of one group."""

    group: Group
    pairs: tuple[Pair, ...]


def find(played: Played, pairing: Pairing, visited: bool = False) -> list[Found]:
    """The pairs of every group of the roles it is for; ``visited``: each as sure as its visit counts make it."""
    return [
        Found(group, tuple(_of_group(group, played.episodes, pairing, visited)))
        for group in groups_of(played, pairing, shown=pairing.demonstrations, across=pairing.across)
    ]


def paired(found: Sequence[Found], roles: Mapping[str, RoleSpec], loss: str) -> Made:
    """Rows of all pairs, two to a unit, and the records of their turns: advantage +1 when chosen, -1 when rejected.

    A role's pairs share its weight evenly, and a pair's tokens the pair's share. A turn in several pairs (``all``)
    has one record: its advantage is how often it was chosen less how often rejected.
    """
    pairs_of: defaultdict[str, int] = defaultdict(int)
    for one in found:
        pairs_of[one.group.role] += len(one.pairs)
    groups: list[GroupRow] = []
    rows: list[Row] = []
    taught: dict[Place, AdvantageRow] = {}
    for one in found:
        role, spec = one.group.role, roles[one.group.role]
        for unit, pair in enumerate(one.pairs, len(rows) // 2):
            share = spec.weight / pairs_of[role] / sum(len(row.trained) for row in pair)
            for row, sign in zip(pair, (1.0, -1.0), strict=True):
                coefficient = [share * mark for mark in row.coefficient_T]
                rows.append(
                    replace(
                        row,
                        coefficient_T=coefficient,
                        temperature=spec.sampling.temperature,
                        loss=loss,
                        unit=unit,
                        adapter=spec.adapter,
                    )
                )
                _teach(taught, rows[-1], sign, len(groups), spec.weight, one.group)
        groups.append(_recorded(len(groups), one))
    figures = {"pairs": float(len(rows) // 2), "groups": float(len(groups))}
    gaps = [_gap(taught, pair) for one in found for pair in one.pairs]
    figures |= {"gap": math.fsum(gaps) / len(gaps)} if gaps else {}
    return Made(rows, groups, list(taught.values()), figures=figures)


def _gap(taught: Mapping[Place, AdvantageRow], pair: Pair) -> float:
    """The difference between the rewards of the two turns that are compared."""
    better, worse = (taught[Place(row.spans[-1].episode, row.spans[-1].turn)].reward or 0.0 for row in pair)
    return better - worse


def _recorded(index: int, found: Found) -> GroupRow:
    """The turns compared: the last one of each row, once."""
    ends = {Place(row.spans[-1].episode, row.spans[-1].turn) for pair in found.pairs for row in pair}
    members = [member for member in found.group.members if member.place in ends]
    return recorded(index, found.group, members, "no pair")


def _teach(taught: dict[Place, AdvantageRow], row: Row, sign: float, group: int, weight: float, source: Group) -> None:
    reward_of = {member.place: member.reward for member in source.members}
    for span in row.spans:
        place = Place(span.episode, span.turn)
        shares = row.coefficient_T[span.start : span.stop]
        n_tokens = sum(share != 0 for share in shares)
        held = taught.get(place)
        if held is None:
            held = AdvantageRow(*place, row.role, group, reward_of.get(place), 0.0, weight, n_tokens, 0.0)
        taught[place] = replace(
            held,
            value=held.value + sign,
            pull=held.pull + sign * math.fsum(shares),
            n_tokens=max(held.n_tokens, n_tokens),
        )


def _of_group(group: Group, episodes: Sequence[Episode], pairing: Pairing, visited: bool) -> list[Pair]:
    ranked = sorted(group.members, key=lambda member: -member.reward)
    made = []
    for better, worse in _candidates(ranked, episodes, pairing):
        doubt = _doubt(better.place, worse.place, episodes) if visited else 0.0
        if doubt >= 0.5:
            continue
        pair = build(better.place, worse.place, episodes, pairing.level, 1.0 - 2.0 * doubt)
        if pair is not None:
            made.append(pair)
            if pairing.pairs != "all" or len(made) == pairing.at_most:
                break
    return made


def _doubt(better: Place, worse: Place, episodes: Sequence[Episode]) -> float:
    """The chance that a pair is the wrong way round: 1 / (N better / N worse + 1), N the visits of a tree search."""
    counts = []
    for place in (better, worse):
        score = episodes[place.episode].score(place.turn, VISITS)
        if score is None or score.value is None:
            raise ScenarioError(
                f"trainer dpo: smoothing: {VISITS} needs turns with a score {VISITS}; the reward value gives it"
            )
        counts.append(score.value)
    return counts[1] / max(1.0, math.fsum(counts))


def _candidates(ranked: Sequence[Member], episodes: Sequence[Episode], pairing: Pairing) -> list[tuple[Member, Member]]:
    """Better and worse, the most wanted first."""
    both = [
        (better, worse) for better in ranked for worse in reversed(ranked) if better.reward - worse.reward > pairing.gap
    ]
    if pairing.pairs == "closest":
        return sorted(both, key=lambda pair: -_likeness(pair[0], pair[1], episodes))
    return sorted(both, key=lambda pair: pair[1].reward - pair[0].reward)


def _likeness(one: Member, other: Member, episodes: Sequence[Episode]) -> float:
    """2 x matching tokens / tokens of both, in [0, 1]."""
    a, b = (episodes[member.place.episode].turns[member.place.turn].token_ids for member in (one, other))
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def build(better: Place, worse: Place, episodes: Sequence[Episode], level: Level, sure: float = 1.0) -> Pair | None:
    """Both sides from where they part; ``None`` when they answer different prompts or one has no token of its own.

    Their advantages are ``sure`` and -``sure``.
    """
    chains = [conversation(episodes[at], episodes[at].turns[turn]) for at, turn in (better, worse)]
    if level == "step":
        return _apart(_side(better, chains[0], [better.turn], sure), _side(worse, chains[1], [worse.turn], -sure))
    if _opening(chains[0]) != _opening(chains[1]):
        return None
    one, other = ([turn.index for turn in chain if turn.token_ids] for chain in chains)
    both = set(one) & set(other) if better.episode == worse.episode else set()
    one, other = ([index for index in side if index not in both] for side in (one, other))
    if not one or not other:  # one conversation goes on from the other
        return None
    chosen, rejected = _side(better, chains[0], one, sure), _side(worse, chains[1], other, -sure)
    return Pair(chosen, rejected) if chosen.token_ids != rejected.token_ids else None


def _opening(chain: Sequence[Turn]) -> tuple[int, ...]:
    context = chain[0].train_context or chain[0].context
    return context.token_ids if context else ()


def _side(place: Place, chain: Sequence[Turn], indices: Sequence[int], sign: float) -> Row:
    """The conversation with coefficient 1 on the turns that are trained, and the side's sign as advantage."""
    role = chain[-1].author
    credits = {index: AdvantageRow(place.episode, index, role, 0, None, sign, 1.0, 0, 0.0) for index in indices}
    shares = dict.fromkeys((Place(place.episode, index) for index in indices), 1.0)
    return lay(Chain(place.episode, tuple(chain), frozenset(indices)), credits, shares)


def _apart(chosen: Row, rejected: Row) -> Pair | None:
    """Only the tokens after the longest common beginning, which must reach both turns."""
    ids = chosen.token_ids, rejected.token_ids
    alike = next((at for at, (one, other) in enumerate(zip(*ids, strict=False)) if one != other), min(map(len, ids)))
    if alike < max(chosen.spans[-1].start, rejected.spans[-1].start) or alike >= min(map(len, ids)):
        return None
    return Pair(_from(chosen, alike), _from(rejected, alike))


def _from(row: Row, start: int) -> Row:
    coefficient = [mark if at >= start else 0.0 for at, mark in enumerate(row.coefficient_T)]
    return replace(row, coefficient_T=coefficient)
