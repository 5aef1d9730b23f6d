"""Which turns a trainer takes: by outcome, by reward within their group, by how they came in. Plain data, no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict

from sparring.agents.engine import DEMONSTRATION
from sparring.envs.types import Ending, Episode, Turn, Validity
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.problems import unknown
from sparring.storage.records import GroupRow

from ..credit import form
from ..groups import Group, Member, Place, moments
from ..pack import conversation, history
from ..stages.base import apply
from .base import Played

if TYPE_CHECKING:
    from sparring.scenarios.schema import RoleSpec, Scenario

    from ..stages.base import Stage

Keep = Literal["right", "wrong", "best", "improved", "demonstrations", "all"]
RIGHT = 1.0  # every verifier's maximum


class Where(BaseModel):
    """``roles`` and ``nodes`` restrict a trainer to turns of these trainable roles and graph nodes; none means all."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    roles: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


class Choice(Where):
    """Which turns are taken.

    ``keep``: right (the score named ``outcome`` is at its maximum, 1), wrong (it is valued and below), best (the
    highest combined reward of its group, the first of equals), improved (``outcome`` above that of the turn before it
    in its conversation), demonstrations (not sampled, but shown), or all
    that was sampled. ``threshold``: the least combined reward
    taken. ``unique``: of equal answers to one prompt only the first is taken.
    """

    keep: Keep = "right"
    outcome: str = Field(default="verifier", min_length=1)
    threshold: float | None = None
    unique: Annotated[bool, Strict()] = True


def check_names(where: Where, scenario: Scenario) -> None:
    """Raise ``ScenarioError`` for a role that is unknown or not trained, and for a node that is not in the graph."""
    for name in where.roles:
        if name not in scenario.roles:
            raise ScenarioError(f"a trainer's roles: {unknown('role', name, scenario.roles)}")
        if not scenario.roles[name].trainable:
            raise ScenarioError(
                f"a trainer's roles: role {name!r} is not trainable; drop it, or set roles.{name}.trainable=true"
            )
    nodes = scenario.graph_spec().nodes if where.nodes else {}
    for name in where.nodes:
        if name not in nodes:
            raise ScenarioError(f"a trainer's nodes: {unknown('node', name, nodes)}")


def trained_roles(played: Played, where: Where) -> dict[str, RoleSpec]:
    """The trainable roles a trainer is for."""
    return {
        name: spec for name, spec in played.roles.items() if spec.trainable and (not where.roles or name in where.roles)
    }


def groups_of(
    played: Played, where: Where, stages: Sequence[Stage] = (), shown: bool = False, across: bool = False
) -> list[Group]:
    """The groups of every role it is for, after ``stages``; turns whose reward is not valued are in none.

    Demonstrations that another trainer asked for are in none either, unless they are ``shown``. ``across``: turns of
    different nodes are compared too.
    """
    formed = [
        group if shown else _sampled(group)
        for role, spec in trained_roles(played, where).items()
        for group in form(played.episodes, role, spec, where.nodes, across)
    ]
    return apply(stages, formed, played.episodes, played.told, played.rounds)


def _sampled(group: Group) -> Group:
    kept = [at for at, member in enumerate(group.members) if member.note != DEMONSTRATION]
    return group if len(kept) == len(group.members) else group.keeping(kept)


def spoken(played: Played, where: Where) -> list[Place]:
    """Every turn its roles sampled in an episode that did not break, valued or not."""
    roles = trained_roles(played, where)
    return [
        Place(at, turn.index)
        for at, episode in enumerate(played.episodes)
        if episode.ending is not Ending.BROKE
        for turn in episode.turns
        if turn.author in roles and turn.token_ids and turn.engine != DEMONSTRATION
        if not where.nodes or turn.node in where.nodes
    ]


def outcome(episode: Episode, turn: int, name: str) -> float | None:
    """The value of this score on this turn; ``None`` unless it is valued and finite."""
    score = episode.score(turn, name)
    if score is None or score.validity is not Validity.VALUED or score.value is None:
        return None
    return score.value if math.isfinite(score.value) else None


def below(episode: Episode, turn: int, name: str) -> float | None:
    """Mean of this score over the turns that came of this one; ``None`` when none is valued."""
    found = [outcome(episode, later.index, name) for later in episode.descendants(turn)]
    values = [value for value in found if value is not None]
    return math.fsum(values) / len(values) if values else None


def prompt(episode: Episode, turn: Turn) -> tuple[int, ...]:
    """The token ids before the turn's own, as they are trained: a ``train_context`` is all that is read before it."""
    ids: list[int] = []
    for one in conversation(episode, turn):
        context = one.train_context or one.context
        ids += context.token_ids if context else ()
        ids += one.token_ids if one.index != turn.index else ()
    return tuple(ids)


def choose(group: Group, episodes: Sequence[Episode], choice: Choice) -> list[int]:
    """Positions, within the group, of the members taken."""
    if group.dropped or not group.members:
        return []
    taken = [at for at, member in enumerate(group.members) if _takes(member, group, episodes, choice)]
    if choice.keep == "best" and taken:
        taken = [max(taken, key=lambda at: group.members[at].reward)]
    if not choice.unique:
        return taken
    seen: dict[tuple[tuple[int, ...], str], int] = {}
    for at in taken:
        episode, turn = _of(group.members[at], episodes)
        seen.setdefault((prompt(episode, turn), turn.said.strip()), at)
    return list(seen.values())


def recorded(index: int, group: Group, members: Sequence[Member], note: str) -> GroupRow:
    """The group as it is stored: ``members`` of it were taken; ``note`` says why none was."""
    mean, std = moments([member.reward for member in members]) if members else (None, None)
    return GroupRow(
        index,
        group.role,
        group.node,
        group.scope,
        len(members),
        mean,
        std,
        kept=bool(members),
        note="" if members else group.dropped or note,
        pool_size=group.pool.size,
        pool_mean=group.pool.mean,
        pool_std=group.pool.std,
    )


def _takes(member: Member, group: Group, episodes: Sequence[Episode], choice: Choice) -> bool:
    if choice.threshold is not None and member.reward < choice.threshold:
        return False
    episode, turn = _of(member, episodes)
    if turn.engine == DEMONSTRATION or choice.keep == "demonstrations":
        return turn.engine == DEMONSTRATION and choice.keep == "demonstrations"
    if choice.keep in ("all", "best"):
        return True
    value = outcome(episode, turn.index, choice.outcome)
    if value is None:
        return False
    if choice.keep == "improved":
        before = earlier(episode, turn, choice.outcome)
        return before is not None and value > before
    return value >= RIGHT if choice.keep == "right" else value < RIGHT


def earlier(episode: Episode, turn: Turn, name: str) -> float | None:
    """This score of the nearest turn before, in the same conversation, that has it."""
    found = [outcome(episode, one.index, name) for one in history(episode, turn)[:-1]]
    return next((value for value in reversed(found) if value is not None), None)


def _of(member: Member, episodes: Sequence[Episode]) -> tuple[Episode, Turn]:
    episode = episodes[member.place.episode]
    return episode, episode.turns[member.place.turn]
