"""Fine-tuning on what was played: chosen turns are made likelier, each with a weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from sparring.envs.types import Episode
from sparring.scenarios.registry import group_stages, make
from sparring.scenarios.schema import Ref, located
from sparring.storage.records import AdvantageRow, GroupRow

from ..groups import Group, Member, Place
from ..losses.aggregate import shares
from ..losses.supervised import Supervised
from ..pack import pack
from .base import Made, Played, Staged
from .keeping import Kept, keep, recalled, row_of, said
from .picks import RIGHT, Choice, below, check_names, choose, groups_of, outcome, recorded
from .policy_gradient import MAIN

if TYPE_CHECKING:
    from sparring.scenarios.schema import Scenario

    from ..losses.base import Aggregate, Loss


class FineTuning(Staged):
    """Fine-tuning on chosen turns: right ones, the best of their group, improved ones, demonstrations, or by weight.

    L = -weight log pi. Turns are trained under ``train_context`` where there is one: help shown is not needed later.
    Source: STaR, arXiv 2203.14465; RAFT, arXiv 2304.06767; ReST, arXiv 2308.08998; utility weights, Socratic-Zero,
    arXiv 2509.24726.
    Gradient: -weight grad log pi.
    """

    class Config(Choice):
        """Which turns, see ``keep``; and how much each weighs.

        ``weigh``: one; reward (the combined reward; turns of 0 or less are left out); utility:
        exp(-(s - centre)^2 / (2 width^2)), s the mean ``outcome`` of what came of the turn, or of its group where
        nothing below it is judged. ``aggregate``: tokens (every token alike), trajectories (every conversation), turns
        (every conversation, every turn in it).

        ``stages``: this trainer's own group stages; ``demonstrations`` among them gives a task whose attempts all
        failed an answer to learn, with ``keep: demonstrations``. ``at``: turns wait, from step to step, until so many
        are there, and then are trained together (ReLIFT, arXiv 2506.07527); 0: at once.
        """

        weigh: Literal["one", "reward", "utility"] = "one"
        centre: float = 0.5
        width: float = Field(default=0.2, gt=0)
        stages: tuple[Ref, ...] = ()
        at: int = Field(default=0, ge=0)
        aggregate: Literal["tokens", "turns", "trajectories"] = "tokens"

    def __init__(self, config: Config, scenario: Scenario) -> None:
        check_names(config, scenario)
        self.config = config
        aggregate: Aggregate = config.aggregate
        self.stages: Sequence[Any] = [make(group_stages, located(ref, scenario.base)) for ref in config.stages]
        self.losses: Mapping[str, Loss] = {MAIN: Supervised(Supervised.Config(aggregate=aggregate))}

    def make(self, played: Played) -> Made:
        """One row per conversation with a chosen turn; a role's coefficients add up to its weight x the mean weight.

        Where turns wait there is one row per turn. In its own step the record of a turn that waits says so, with weight
        0; the step that trains it has a record of its own.
        """
        groups: list[GroupRow] = []
        taught: list[AdvantageRow] = []
        for group in groups_of(played, self.config, self.stages, self.config.keep == "demonstrations"):
            kept = self.weighed(group, played.episodes)
            groups.append(recorded(len(groups), group, kept, f"none {self.config.keep}"))
            taught += shown(len(groups) - 1, group.role, kept, played.roles[group.role].weight)
        if self.config.at:
            return self._waiting(played, groups, taught)
        packed = pack(played.episodes, taught, played.roles, self.losses, lambda row: MAIN)
        weights = [row.weight for row in taught]
        figures = {"turns": float(len(taught)), "groups": float(len(groups))}
        figures |= {"weight": math.fsum(weights) / len(weights)} if weights else {}
        return Made(packed.rows, groups, packed.advantages, figures=figures)

    def _waiting(self, played: Played, groups: list[GroupRow], taught: list[AdvantageRow]) -> Made:
        """Chosen turns join those that wait; the first ``at`` are trained once there are so many."""
        held: list[Kept] = played.state.setdefault("waiting", [])
        for row in taught:
            held.append(keep(played, Place(row.episode, row.turn), row.reward, row.weight))
        due = self._released(held[: self.config.at] if len(held) >= self.config.at else [])
        del held[: len(due)]
        rows = [row_of(kept, share * kept["weight"], MAIN, unit) for unit, (kept, share) in enumerate(due)]
        then = recalled([one for one in due if one[0]["from"][0] != played.step], "waited", len(groups))
        now = {tuple(kept["from"][1:]): share for kept, share in due if kept["from"][0] == played.step}
        records = [_settled(row, now.get((row.episode, row.turn))) for row in taught]
        figures = {"turns": float(len(rows)), "waiting": float(len(held))}
        return Made(rows, groups + then.groups, records + then.advantages, figures=figures, earlier=then.earlier)

    def _released(self, due: Sequence[Kept]) -> list[tuple[Kept, float]]:
        """The turns, role by role, with the share of the loss that each of their tokens has."""
        found: list[tuple[Kept, float]] = []
        for role in dict.fromkeys(kept["role"] for kept in due):
            mine = [kept for kept in due if kept["role"] == role]
            divided = shares([[said(kept)] for kept in mine], self.config.aggregate)
            found += [(kept, share) for kept, (share,) in zip(mine, divided, strict=True)]
        return found

    def weighed(self, group: Group, episodes: Sequence[Episode]) -> list[Member]:
        """The chosen members of a group with their weights; who weighs nothing is not among them."""
        chosen = [group.members[at] for at in choose(group, episodes, self.config)]
        found = [replace(member, weight=member.weight * self._weight(member, group, episodes)) for member in chosen]
        return [member for member in found if member.weight > 0]

    def _weight(self, member: Member, group: Group, episodes: Sequence[Episode]) -> float:
        if self.config.weigh == "one":
            return 1.0
        if self.config.weigh == "reward":
            return max(0.0, member.reward)
        success = self._success(member, group, episodes)
        if success is None:
            return 0.0
        return math.exp(-((success - self.config.centre) ** 2) / (2 * self.config.width**2))

    def _success(self, member: Member, group: Group, episodes: Sequence[Episode]) -> float | None:
        """How often what came of the turn was right, else how often its group was; ``None`` where nothing is judged."""
        name = self.config.outcome
        came = below(episodes[member.place.episode], member.place.turn, name)
        if came is not None:
            return came
        found = [outcome(episodes[one.place.episode], one.place.turn, name) for one in group.members]
        values = [float(value >= RIGHT) for value in found if value is not None]
        return math.fsum(values) / len(values) if values else None


def _settled(row: AdvantageRow, share: float | None) -> AdvantageRow:
    """The record of a turn in its own step: trained at once, each token with this share, or waiting."""
    if share is None:
        return replace(row, weight=0.0, note="waits")
    return replace(row, pull=row.weight * share * row.n_tokens)


def shown(index: int, role: str, members: Sequence[Member], weight: float) -> list[AdvantageRow]:
    """Each member as a turn to imitate: advantage 1, its own weight times the role's."""
    return [
        AdvantageRow(
            member.place.episode,
            member.place.turn,
            role,
            index,
            member.reward,
            1.0,
            weight * member.weight,
            member.tokens,
            0.0,
            note=member.note,
        )
        for member in members
    ]
