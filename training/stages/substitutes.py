"""Stages that bring a later turn into an earlier group: the best revision or hinted retry for a failed attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from sparring.agents.conditions import VERIFIER
from sparring.envs.types import Episode, Validity
from sparring.scenarios.registry import group_stages

from ..groups import Group, Member, Place
from .base import RIGHT_AT, GroupStage, StageOptions


class SubstituteOptions(StageOptions):
    """``node``: the graph node whose turns may come in; they are the same role's and stand below a member.

    ``when``: only into groups in which all ``failed``, or ``always``. ``right``: a turn is right from this reward on.
    ``rest``: groups of that node are dropped (``drop``), or keep the turns that did not move (``keep``).
    ``weight`` is the turn's share of the gradient beside that of a sampled one.
    """

    node: str = Field(min_length=1)
    when: Literal["failed", "always"] = "failed"
    right: float = RIGHT_AT
    rest: Literal["drop", "keep"] = "drop"
    weight: float = Field(default=1.0, ge=0)


class Substitute(GroupStage):
    """Finds the first right turn below a group's members, else the best, and hands it to ``placed``."""

    note = ""

    def __init__(self, config: SubstituteOptions) -> None:
        self.config: SubstituteOptions = config

    def together(self, groups: Sequence[Group], episodes: Sequence[Episode]) -> list[Group]:
        """Groups with the turns that came in; each moves once, and out of the group it stood in."""
        known = {member.place: member for group in groups for member in group.members}
        taken: set[Place] = set()
        found = []
        for group in groups:
            if self.concerns(group) and group.node != self.config.node:
                chosen = self._chosen(group, known, taken, episodes)
                if chosen is not None:
                    taken.add(chosen.place)
                    group = self.placed(group, replace(chosen, weight=self.config.weight, note=self.note))
            found.append(group)
        return [self._source(group, taken) for group in found]

    def change(self, group: Group, episodes: Sequence[Episode]) -> Group:
        """One group by itself; the rewards of turns outside it are read from their verifier's score."""
        return self.together([group], episodes)[0]

    def figures(
        self, before: Sequence[Group], after: Sequence[Group], episodes: Sequence[Episode], rounds: Sequence[int]
    ) -> dict[str, float]:
        """Shares: groups a turn came into, turns that came in right, failed groups, those that got a right one."""
        both = zip(before, after, strict=True)
        mine = [(old, new) for old, new in both if self.concerns(old) and old.node != self.config.node]
        came = [_came(new, self.note) for _, new in mine]
        rescued = [bool(turn and turn.reward >= self.config.right) for turn in came]
        failed = [all(reward < self.config.right for reward in old.reward_G) for old, _ in mine]
        found = {"share": _share([turn is not None for turn in came]), "failed": _share(failed)}
        found["right"] = _share([right for right, turn in zip(rescued, came, strict=True) if turn is not None])
        found["rescued"] = _share([right for right, lost in zip(rescued, failed, strict=True) if lost])
        return {f"{self.note}/{name}": share for name, share in found.items() if share is not None}

    def placed(self, group: Group, chosen: Member) -> Group:
        """The group with ``chosen`` in it."""
        raise NotImplementedError

    def _chosen(
        self, group: Group, known: Mapping[Place, Member], taken: set[Place], episodes: Sequence[Episode]
    ) -> Member | None:
        failed = all(reward < self.config.right for reward in group.reward_G)
        if self.config.when == "failed" and not failed:
            return None
        here = {member.place for member in group.members} | taken
        below = [member for member in self._below(group, known, episodes) if member.place not in here]
        right = [member for member in below if member.reward >= self.config.right]
        best = right[0] if right else max(below, key=lambda member: member.reward, default=None)
        if best is None or (self.config.when == "failed" and best.reward <= min(group.reward_G)):
            return None
        return best

    def _below(self, group: Group, known: Mapping[Place, Member], episodes: Sequence[Episode]) -> list[Member]:
        places: dict[Place, None] = {}
        for at, index in sorted({member.place for member in group.members}):
            for turn in episodes[at].descendants(index):
                if turn.node == self.config.node and turn.author == group.role and turn.token_ids:
                    places[Place(at, turn.index)] = None
        found = [known.get(place) or scored(place, episodes) for place in sorted(places)]
        return [member for member in found if member is not None]

    def _source(self, group: Group, taken: set[Place]) -> Group:
        if group.node != self.config.node:
            return group
        left = [at for at, member in enumerate(group.members) if member.place not in taken]
        if self.concerns(group) and (self.config.rest == "drop" or not left):
            group = group.without("stands in for earlier turns")
        return group.keeping(left)  # a turn that moved is in one group only, also when the one it left was dropped


def _came(group: Group, note: str) -> Member | None:
    return next((member for member in group.members if member.note == note), None)


def _share(held: Sequence[bool]) -> float | None:
    return sum(held) / len(held) if held else None


def scored(place: Place, episodes: Sequence[Episode]) -> Member | None:
    """A member made of a turn and its verifier's score; ``None`` without a valued one, or with a score that is invalid.

    A turn one of whose rewards failed is in no group, and its verifier's score alone would be another measure.
    """
    episode = episodes[place.episode]
    if any(score.validity is Validity.INVALID for score in episode.scores.get(place.turn, ())):
        return None
    score = episode.score(place.turn, VERIFIER)
    if score is None or score.validity is not Validity.VALUED or score.value is None:
        return None
    return Member(place, score.value, {VERIFIER: score.value}, len(episode.turns[place.turn].token_ids))


@group_stages("replace")
class Replace(Substitute):
    """Puts a later turn (first right, else best) in the place of the worst member.

    Figures: replaced/share of the groups, replaced/right of the turns that came in, replaced/failed: groups in which
    all had failed, replaced/rescued: those of them that got a right one.

    Formula: argmin R of the group gives way to a turn below it
    Source: Scaf-GRPO, arXiv 2510.19807
    """

    Config = SubstituteOptions
    note = "replaced"

    def placed(self, group: Group, chosen: Member) -> Group:
        """The worst member, the earliest of equals, makes room."""
        worst = group.reward_G.index(min(group.reward_G))
        members = [chosen if at == worst else member for at, member in enumerate(group.members)]
        return replace(group, members=tuple(members))


@group_stages("insert")
class Insert(Substitute):
    """Adds a later turn (first right, else best) to an earlier group.

    Figures: inserted/share of the groups, inserted/right of the turns that came in, inserted/failed: groups in which
    all had failed, inserted/rescued: those of them that got a right one.

    Formula: n + 1 members, the last from below the others
    Source: Critique-GRPO, arXiv 2506.03106
    """

    Config = SubstituteOptions
    note = "inserted"

    def placed(self, group: Group, chosen: Member) -> Group:
        """One member more."""
        return replace(group, members=(*group.members, chosen))
