"""What stages ask the rollout for before the groups are final, and the two ways of asking our stages know."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from sparring.agents.engine import DEMONSTRATION
from sparring.envs.types import Episode

from ..groups import Group
from .base import Asking, Stage, Want, apply


def wanted(
    stages: Sequence[Stage],
    groups: Sequence[Group],
    episodes: Sequence[Episode],
    round: int,
    first: int | None = None,
) -> list[Want]:
    """Every stage's wants, each seeing the groups as the stages before it leave them.

    ``first``: how many episodes the step began with (absent: all of them). What two roles or stages want of the same
    task or pick is played once: the larger count.
    """
    found: list[Want] = []
    seen = list(groups)
    for stage in stages:
        if isinstance(stage, Asking):
            found += stage.wants(seen, episodes, round, len(episodes) if first is None else first)
        seen = apply([stage], seen, episodes)
    return merged(found, episodes)


def merged(wants: Iterable[Want], episodes: Sequence[Episode]) -> list[Want]:
    """One want per task to repeat and per pick to draw from: the largest count asked for, in the order asked."""
    largest: dict[tuple[object, ...], Want] = {}
    for want in wants:
        if want.count < 1:
            continue
        key = (want.kind, want.task or want.episode if want.kind == "again" else episodes[want.episode].pick)
        held = largest.get(key)
        if held is None or want.count > held.count:
            largest[key] = want
    return list(largest.values())


def episodes_of(group: Group) -> list[int]:
    """Positions of the episodes a group's turns are in, in order, each once."""
    return sorted({member.place.episode for member in group.members})


def refills(before: Sequence[Group], after: Sequence[Group], episodes: Sequence[Episode], first: int) -> list[Want]:
    """Fresh episodes for as many of the groups that the step began with as were dropped and not yet made up for.

    Counted per role. The groups dropped last are asked for again, one episode for each of theirs.
    """
    found: list[Want] = []
    by_role: defaultdict[str, list[tuple[Group, Group]]] = defaultdict(list)
    for was, now in zip(before, after, strict=True):
        if not was.dropped and was.members:
            by_role[was.role].append((was, now))
    for pairs in by_role.values():
        began = sum(episodes_of(was)[0] < first for was, _ in pairs)
        short = began - sum(not now.dropped for _, now in pairs)
        lost = sorted((was for was, now in pairs if now.dropped), key=lambda group: episodes_of(group)[0])
        sources = {at for group in (lost[-short:] if short > 0 else ()) for at in _drawn(group, first)}
        counts = Counter(episodes[at].pick for at in sources)
        heads = {episodes[at].pick: at for at in sorted(sources, reverse=True)}
        found += [Want("fresh", heads[pick], count) for pick, count in sorted(counts.items())]
    return found


def _drawn(group: Group, first: int) -> list[int]:
    """A group over a whole pick grows with every refill; only what it began with is asked for again."""
    places = episodes_of(group)
    return [at for at in places if at < first] or places


def repeats(group: Group, episodes: Sequence[Episode], samples: int, limit: int) -> Want | None:
    """About ``samples`` more turns for this group, or as many as keep its pool within ``limit``; ``None`` when full.

    Turns about one task get that task again, others (proposals, first turns of different tasks) a fresh one. Turns
    that nobody could judge are in no pool, but they were drawn: they count.
    """
    places, drawn = episodes_of(group), max(group.pool.size, _tried(group, episodes))
    per_episode = -(-drawn // len(places))
    count = min(max(1, samples // per_episode), (limit - drawn) // per_episode)
    if count < 1:
        return None
    keys = {episodes[member.place.episode].turns[member.place.turn].task for member in group.members}
    key = keys.pop() if len(keys) == 1 else None
    return Want("fresh", places[0], count) if key is None else Want("again", places[0], count, key)


def _tried(group: Group, episodes: Sequence[Episode]) -> int:
    """How many turns were sampled where the group's members were, judged or not."""
    parents = {(at, episodes[at].turns[index].parent) for at, index in (member.place for member in group.members)}
    return sum(
        (at, turn.parent) in parents and turn.engine != DEMONSTRATION and bool(turn.token_ids)
        for at in episodes_of(group)
        for turn in episodes[at].turns
        if (turn.author, turn.node) == (group.role, group.node)
    )
