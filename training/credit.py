"""From scores to advantages: combine a turn's rewards, find whom it is compared with, subtract a baseline.

Pure Python on plain lists. Comparison groups come from lineage alone, so any role in any graph gets credit.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sparring.agents.engine import DEMONSTRATION
from sparring.envs.types import Ending, Episode, Turn, Validity
from sparring.storage.records import AdvantageRow, GroupRow

from .advantages.base import Fitted
from .groups import Group, Member, Place, moments
from .stages.base import apply

if TYPE_CHECKING:
    from sparring.scenarios.schema import RoleSpec

    from .advantages.base import Advantage
    from .stages.base import Stage


@dataclass(frozen=True)
class Credit:
    """The groups of one step, and the advantage of every trained turn, ready to be packed and stored.

    ``figures`` are what an estimator fitted to the step's groups, and what stages say of themselves, by role.
    """

    groups: tuple[GroupRow, ...]
    advantages: tuple[AdvantageRow, ...]
    baselines: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


def components(episode: Episode, turn: Turn, weights: Mapping[str, float]) -> dict[str, float] | None:
    """A turn's valued rewards times their weights; ``None``, never 0, when one is invalid or none is valued."""
    found: dict[str, float] = {}
    for name, weight in weights.items():
        score = episode.score(turn.index, name)
        if score is None or score.validity is Validity.MISSING:
            continue
        if score.validity is Validity.INVALID or score.value is None or not math.isfinite(score.value):
            return None
        found[name] = weight * score.value
    return found or None


def relatives(episodes: Sequence[Episode], places: Sequence[Place]) -> dict[str, list[Place]]:
    """Partition turns of one node by their closest shared ancestor; whoever stays alone forms a group of one.

    Siblings (one parent) are compared with each other; an only child climbs to the nearest ancestor under which others
    are left. Turns that climb to where their task was set meet those of every other episode on the same task. What is
    left at the root is compared within the same curriculum decision.
    """
    groups: dict[str, list[Place]] = {}
    joined: defaultdict[str, list[Place]] = defaultdict(list)
    by_episode: defaultdict[int, list[Place]] = defaultdict(list)
    repeated = _repeated(episodes)
    for place in places:
        by_episode[place.episode].append(place)
    for at, members in by_episode.items():
        turns = episodes[at].turns
        below: defaultdict[int | None, list[Place]] = defaultdict(list)
        for place in members:
            below[turns[place.turn].parent].append(place)
        for ancestor in range(len(turns) - 1, -1, -1):  # children stand after their parent, so the deepest come first
            left, key = below.pop(ancestor, []), _sets(turns, ancestor)
            if key in repeated:
                joined[f"task {key}"] += left
            elif len(left) > 1:
                groups[f"episode {at} turn {ancestor}"] = left
            else:
                below[turns[ancestor].parent] += left
        joined[f"pick {episodes[at].pick}"] += below[None]
    found = {scope: sorted(members) for scope, members in (groups | joined).items() if members}
    return dict(sorted(found.items(), key=lambda item: item[1][0]))


def _sets(turns: Sequence[Turn], index: int) -> str | None:
    """The key of the task that came into force with this turn."""
    turn = turns[index]
    before = None if turn.parent is None else turns[turn.parent].task
    return turn.task if turn.task != before else None


def _repeated(episodes: Sequence[Episode]) -> set[str | None]:
    """Keys of tasks that were set in more than one episode."""
    counts = Counter(
        key
        for episode in episodes
        for key in {_sets(episode.turns, turn.index) for turn in episode.turns}
        if key is not None
    )
    return {key for key, count in counts.items() if count > 1}


def form(
    episodes: Sequence[Episode], role: str, spec: RoleSpec, nodes: Sequence[str] = (), across: bool = False
) -> list[Group]:
    """One role's groups before any stage. Turns whose reward is not valued, and broken episodes, take no part.

    ``nodes`` restricts to these; none means all; ``across``: turns of different nodes are compared too. With
    ``spec.discount`` a turn's reward is its own (nothing, where none is given for it: a tool call, a move) plus what
    the role's later turns on its branch earn, discounted once per turn.
    """
    valued = _valued(episodes, role, spec, nodes)
    if spec.discount is not None:
        valued = _returns(episodes, valued, _unknown(episodes, role, spec, nodes), spec.discount)
    else:
        valued = {place: member for place, member in valued.items() if member.components}
    return [
        Group.of(role, node, scope, [valued[place] for place in members])
        for node, scope, members in _scopes(episodes, valued, spec.compare, across)
    ]


def credit(
    episodes: Sequence[Episode],
    roles: Mapping[str, RoleSpec],
    advantage: Advantage,
    baselines: Mapping[str, float] | None = None,
    stages: Sequence[Stage] = (),
    nodes: Sequence[str] = (),
    rounds: Sequence[int] = (),
) -> Credit:
    """Advantages of every trainable role's turns. Turns of dropped groups, and turns a stage took out of a group, are
    recorded with weight 0.

    ``pull`` is filled in when rows are packed, for only then the denominators are known. ``rounds`` is as in ``apply``.
    """
    held = dict(baselines or {})
    groups: list[GroupRow] = []
    rows: list[AdvantageRow] = []
    figures: dict[str, float] = {}
    for role, spec in roles.items():
        if not spec.trainable:
            continue
        formed = form(episodes, role, spec, nodes)
        final = apply(stages, formed, episodes, figures, rounds)
        kept = {member.place for group in final for member in group.members}
        for before, group, values in zip(formed, final, _values(final, spec, role, advantage, held), strict=True):
            groups.append(_row(len(groups), group, values))
            rows += _rows(groups[-1].index, group, values, spec.weight)
            rows += _left_out(groups[-1].index, before, kept)
        if isinstance(advantage, Fitted):
            fitted = advantage.figures([group for group in final if not group.dropped])
            figures |= {f"{name}/{role}": value for name, value in fitted.items()}
    return Credit(tuple(groups), tuple(rows), held, figures)


def _valued(episodes: Sequence[Episode], role: str, spec: RoleSpec, nodes: Sequence[str]) -> dict[Place, Member]:
    """The role's turns with what each earns itself; without ``components`` where no reward is given for it."""
    found = {}
    for at, episode in enumerate(episodes):
        if episode.ending is Ending.BROKE:
            continue
        for turn in episode.turns:
            if turn.author != role or not turn.token_ids or (nodes and turn.node not in nodes):
                continue
            parts = components(episode, turn, spec.reward)
            if parts is not None or _silent(episode, turn, spec.reward):
                note = DEMONSTRATION if turn.engine == DEMONSTRATION else ""
                place, parts = Place(at, turn.index), parts or {}
                found[place] = Member(place, math.fsum(parts.values()), parts, len(turn.token_ids), note=note)
    return found


def _silent(episode: Episode, turn: Turn, names: Iterable[str]) -> bool:
    """Whether no reward of these is there to be judged, rather than one being invalid."""
    found = [episode.score(turn.index, name) for name in names]
    return all(score is None or score.validity is Validity.MISSING for score in found)


def _unknown(episodes: Sequence[Episode], role: str, spec: RoleSpec, nodes: Sequence[str]) -> set[Place]:
    """The role's turns with a reward that should be there and is not: a crashed verifier, an engine that was down."""
    return {
        Place(at, turn.index)
        for at, episode in enumerate(episodes)
        for turn in episode.turns
        if turn.author == role and (not nodes or turn.node in nodes)
        if components(episode, turn, spec.reward) is None and not _silent(episode, turn, spec.reward)
    }


def _returns(
    episodes: Sequence[Episode], judged: Mapping[Place, Member], unknown: Collection[Place], discount: float
) -> dict[Place, Member]:
    """Rewards to go along each branch; a turn with several continuations gets the mean of those that are known.

    A turn that earns nothing itself, and after which nothing is earned either, is left out; so is one after which what
    is earned is ``unknown``, and with it what came before.
    """
    to_go: dict[Place, float] = {}
    later: defaultdict[Place, list[float | None]] = defaultdict(list)
    for place in sorted({*judged, *unknown}, reverse=True):  # a turn stands after its ancestors
        below, own = later.get(place, []), judged.get(place)
        known = [value for value in below if value is not None]
        if own is not None and not (own.components or below):
            continue
        if own is not None and (known or not below):
            to_go[place] = own.reward + (discount * math.fsum(known) / len(known) if known else 0.0)
        path = (Place(place.episode, turn.index) for turn in episodes[place.episode].ancestors(place.turn)[1:])
        before = next((earlier for earlier in path if earlier in judged or earlier in unknown), None)
        if before is not None:
            later[before].append(to_go.get(place))
    return {place: replace(judged[place], reward=to_go[place]) for place in judged if place in to_go}


def _scopes(
    episodes: Sequence[Episode], places: Mapping[Place, Member], compare: str, across: bool
) -> list[tuple[str, str, list[Place]]]:
    by_node: defaultdict[str, list[Place]] = defaultdict(list)
    for place in places:
        by_node["" if across else episodes[place.episode].turns[place.turn].node].append(place)
    if compare == "siblings":
        return [
            (node, scope, members)
            for node, of_node in by_node.items()
            for scope, members in relatives(episodes, of_node).items()
        ]
    return [(node, compare, members) for node, members in by_node.items()]


def _values(
    groups: Sequence[Group], spec: RoleSpec, role: str, advantage: Advantage, held: dict[str, float]
) -> list[list[float]]:
    """Advantages of kept groups; zeros for dropped ones."""
    kept = [group for group in groups if not group.dropped]
    if spec.compare != "baseline":
        values = iter(advantage(kept))
    else:  # role-conditioned exponential average, updated after use (SPIRAL, arXiv 2506.24119)
        base = held.get(role, 0.0)
        values = iter([[reward - base for reward in group.reward_G] for group in kept])
        for group in kept:
            held[role] = 0.95 * held.get(role, 0.0) + 0.05 * moments(group.reward_G).mean
    return [[0.0] * len(group.members) if group.dropped else next(values) for group in groups]


def _row(index: int, group: Group, values: Sequence[float]) -> GroupRow:
    mean, std = moments(group.reward_G) if group.members else (None, None)
    kept = any(value != 0.0 for value in values)
    note = group.dropped or ("" if kept else "alone" if len(values) == 1 else "all equal")
    pool = group.pool
    return GroupRow(
        index, group.role, group.node, group.scope, len(values), mean, std, kept, note,
        pool_size=pool.size, pool_mean=pool.mean, pool_std=pool.std,
    )  # fmt: skip


def _rows(index: int, group: Group, values: Sequence[float], weight: float) -> list[AdvantageRow]:
    return [
        AdvantageRow(
            member.place.episode,
            member.place.turn,
            group.role,
            index,
            member.reward,
            value,
            0.0 if group.dropped else weight * member.weight,
            member.tokens,
            0.0,
            note=member.note,
        )
        for member, value in zip(group.members, values, strict=True)
    ]


def _left_out(index: int, before: Group, kept: Collection[Place]) -> list[AdvantageRow]:
    """Members that no group has any more: drawn, compared at first, and then not learnt from."""
    return [
        AdvantageRow(
            member.place.episode, member.place.turn, before.role, index, member.reward, 0.0, 0.0, member.tokens, 0.0,
            note="left out",
        )
        for member in before.members
        if member.place not in kept
    ]  # fmt: skip
