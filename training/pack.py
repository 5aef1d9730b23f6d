"""Episodes with advantages become rows of tokens: every sampled token is trained once, in the context the engine saw.

Plain lists; they become tensors only inside the learner.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sparring.envs.types import Episode, Turn
from sparring.storage.records import AdvantageRow

from .groups import Place
from .losses.aggregate import shares
from .rows import ADVANTAGE, BEHAVIOUR, REWARD, UNKNOWN, Row, Span

if TYPE_CHECKING:
    from sparring.scenarios.schema import RoleSpec

    from .losses.base import Aggregate, Loss


Count = tuple["Aggregate", int]  # how a loss averages: over what, and by which constant length


@dataclass(frozen=True)
class Packed:
    """Rows ready for the learner, and the advantages with their ``pull`` filled in."""

    rows: tuple[Row, ...]
    advantages: tuple[AdvantageRow, ...]


@dataclass(frozen=True)
class Chain:
    """One role's conversation down to a leaf, and which of its turns this row trains (each turn in one chain only)."""

    episode: int
    turns: tuple[Turn, ...]
    trained: frozenset[int]


def pack(
    episodes: Sequence[Episode],
    advantages: Sequence[AdvantageRow],
    roles: Mapping[str, RoleSpec],
    losses: Mapping[str, Loss],
    loss_of: Callable[[AdvantageRow], str] = lambda row: "policy",
    shaped: Container[str] = (),
) -> Packed:
    """Rows for every conversation that holds a token to train, with one denominator per role.

    ``loss_of`` names the loss a turn is for; losses that average alike divide by one count, so that a turn weighs the
    same in whichever of them it is. A turn of weight 0 is in no row and in no denominator. A turn whose
    advantage is 0 is in the denominator, and in a row only when its loss reads ``every_token`` or is ``shaped``: the
    estimator that goes on to its tokens has not spoken yet.
    """
    by_place = {Place(row.episode, row.turn): row for row in advantages if row.weight}
    found = list(chains(episodes, by_place))
    share_of: dict[Place, float] = {}
    counted = {name: (part.aggregate, getattr(part, "length", 0)) for name, part in losses.items()}
    for (_, count), members in _by_count(found, by_place, lambda row: counted[loss_of(row)]).items():
        counts = [[by_place[place].n_tokens for place in places] for places in members]
        divided = shares(counts, *count)
        for places, per_turn in zip(members, divided, strict=True):
            share_of |= dict(zip(places, per_turn, strict=True))
    whole = {name for name, part in losses.items() if part.every_token or name in shaped}
    rows: list[Row] = []
    for unit, chain in enumerate(found):
        rows += _rows(chain, unit, by_place, share_of, whole, loss_of, roles)
    return Packed(tuple(rows), tuple(_pulled(row, share_of) for row in advantages))


def chains(episodes: Sequence[Episode], wanted: Mapping[Place, AdvantageRow]) -> Iterator[Chain]:
    """Every conversation with a wanted turn that no earlier conversation trains."""
    for at, episode in enumerate(episodes):
        inner, taken = _inner(episode), set[int]()
        for leaf in episode.turns:
            if not leaf.token_ids or leaf.index in inner:
                continue
            turns = conversation(episode, leaf)
            mine = {turn.index for turn in turns if Place(at, turn.index) in wanted} - taken
            if mine:
                taken |= mine
                yield Chain(at, tuple(turns), frozenset(mine))


def _inner(episode: Episode) -> set[int]:
    """Turns after which their trained conversation goes on to a turn with tokens."""
    found: set[int] = set()
    for turn in reversed(episode.turns):  # who goes on from a turn stands after it
        goes_on = turn.train_context is None and turn.follows is not None
        if goes_on and (turn.token_ids or turn.index in found):
            found.add(turn.follows or 0)
    return found


def conversation(episode: Episode, leaf: Turn) -> list[Turn]:
    """The turns that are read to train ``leaf``, oldest first: the role's conversation since its last stripped prompt.

    A ``train_context`` is the whole prompt of its turn, so nothing before it is read.
    """
    chain = [leaf]
    while chain[-1].train_context is None and chain[-1].follows is not None:
        chain.append(episode.turns[chain[-1].follows])
    return chain[::-1]


def history(episode: Episode, leaf: Turn) -> list[Turn]:
    """The turns of one role's conversation up to ``leaf`` as it was played, oldest first."""
    chain = [leaf]
    while chain[-1].follows is not None:
        chain.append(episode.turns[chain[-1].follows])
    return chain[::-1]


def _by_count(
    found: Sequence[Chain], by_place: Mapping[Place, AdvantageRow], count_of: Callable[[AdvantageRow], Count]
) -> dict[tuple[str, Count], list[list[Place]]]:
    """For each role and way of counting its trajectories, as lists of the turns trained."""
    groups: defaultdict[tuple[str, Count], list[list[Place]]] = defaultdict(list)
    for chain in found:
        mine: defaultdict[tuple[str, Count], list[Place]] = defaultdict(list)
        for index in sorted(chain.trained):
            row = by_place[Place(chain.episode, index)]
            mine[row.role, count_of(row)].append(Place(chain.episode, index))
        for key, places in mine.items():
            groups[key].append(places)
    return groups


def _rows(
    chain: Chain,
    unit: int,
    by_place: Mapping[Place, AdvantageRow],
    share_of: Mapping[Place, float],
    whole: Container[str],
    loss_of: Callable[[AdvantageRow], str],
    roles: Mapping[str, RoleSpec],
) -> Iterator[Row]:
    """One row per loss that has something to learn from this conversation; those in ``whole`` read all of it."""
    credits = {index: by_place[Place(chain.episode, index)] for index in sorted(chain.trained)}
    for name in dict.fromkeys(map(loss_of, credits.values())):
        mine = {
            index: row for index, row in credits.items() if loss_of(row) == name and (row.value != 0.0 or name in whole)
        }
        if mine:
            spec = roles[chain.turns[-1].author]
            row = lay(chain, mine, share_of)
            yield replace(row, temperature=spec.sampling.temperature, loss=name, unit=unit, adapter=spec.adapter)


def lay(chain: Chain, credits: Mapping[int, AdvantageRow], share_of: Mapping[Place, float]) -> Row:
    """One conversation as it is trained: as sampled, or from a ``train_context`` on.

    After one nothing was sampled in this context, so no behaviour log-prob is known. Nothing after the last
    trained turn is read. Only the turns in ``credits`` are trained, each token with its share times the turn's weight.
    """
    last = max(credits)
    ids: list[int] = []
    streams: dict[str, list[float]] = {ADVANTAGE: [], BEHAVIOUR: [], REWARD: []}
    coefficient: list[float] = []
    spans: list[Span] = []
    stripped = chain.turns[0].train_context is not None
    for turn in chain.turns:
        context = turn.train_context or turn.context
        heard = context.token_ids if context else ()
        n, said = len(heard), len(turn.token_ids)
        credit = credits.get(turn.index)
        coefficient += [0.0] * n
        share = credit.weight * share_of[Place(chain.episode, turn.index)] if credit else 0.0
        coefficient += [share] * said
        if credit:
            spans.append(Span(chain.episode, turn.index, len(ids) + n, len(ids) + n + said, credit.group))
        ids += [*heard, *turn.token_ids]
        streams[ADVANTAGE] += [0.0] * n + [credit.value if credit else 0.0] * said
        streams[BEHAVIOUR] += [0.0] * n + ([UNKNOWN] * said if stripped else list(turn.logprobs))
        streams[REWARD] += [0.0] * (n + said - 1) + [credit.reward or 0.0 if credit else 0.0] if said else [0.0] * n
        if turn.index == last:
            break
    return Row(chain.turns[-1].author, ids, coefficient, streams, spans=tuple(spans))


def _pulled(row: AdvantageRow, share_of: Mapping[Place, float]) -> AdvantageRow:
    share = row.weight * share_of.get(Place(row.episode, row.turn), 0.0)
    return replace(row, pull=row.value * share * row.n_tokens)
