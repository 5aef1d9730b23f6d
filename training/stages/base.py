"""What a group stage is: a group in, a group out; some look at all groups at once, some ask the rollout for more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from sparring.agents.conditions import RIGHT_AT as RIGHT_AT
from sparring.agents.engine import Renderer
from sparring.envs.types import Episode

from ..groups import Group


class Stage(Protocol):
    """Pure: the same group and episodes give the same group. A dropped group passes through every later stage."""

    def __call__(self, group: Group, episodes: Sequence[Episode]) -> Group: ...


@runtime_checkable
class Together(Protocol):
    """A stage that looks at all groups at once: to compare over them, or to move a turn from one to another."""

    def together(self, groups: Sequence[Group], episodes: Sequence[Episode]) -> list[Group]:
        """As many groups, in the same order."""
        ...


@dataclass(frozen=True)
class Want:
    """``count`` more episodes: ``again`` on a task of ``episode`` (a position in the step), ``fresh`` from its pick.

    ``task`` is the task's key; without one it is the episode's first.
    """

    kind: Literal["again", "fresh"]
    episode: int
    count: int
    task: str | None = None


@runtime_checkable
class Asking(Protocol):
    """A stage that wants more play before the groups are final."""

    def wants(self, groups: Sequence[Group], episodes: Sequence[Episode], round: int, first: int) -> list[Want]:
        """What to play next, given the groups so far as this stage sees them; nothing ends the rounds (0, 1, ...).

        The ``first`` episodes are those the step began with; later ones were asked for.
        """
        ...


@runtime_checkable
class Offering(Protocol):
    """A stage that puts turns beside the sampled ones, before groups are formed."""

    def offer(self, episodes: Sequence[Episode], renderer: Renderer) -> list[Episode]:
        """The episodes with the turns added, in the same order."""
        ...


class StageOptions(BaseModel):
    """``role``: only this role's groups; absent, all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    role: str | None = None


class GroupStage:
    """Base of our stages: dropped groups, empty ones and other roles' pass through, ``change`` does the rest."""

    Config: type[StageOptions] = StageOptions
    config: StageOptions

    def __call__(self, group: Group, episodes: Sequence[Episode]) -> Group:
        """The group after this stage."""
        return self.change(group, episodes) if self.concerns(group) else group

    def concerns(self, group: Group) -> bool:
        """Whether there is something to do."""
        return bool(group.members) and not group.dropped and self.config.role in (None, group.role)

    def change(self, group: Group, episodes: Sequence[Episode]) -> Group:
        """What this stage makes of a group that concerns it."""
        raise NotImplementedError


def thinned(group: Group, kept: Sequence[int], reason: str) -> Group:
    """The members at ``kept``; the group dropped with ``reason`` when none is, itself when all are."""
    if len(kept) == len(group.members):
        return group
    return group.keeping(kept) if kept else group.without(reason)


def apply(stages: Sequence[Stage], groups: Sequence[Group], episodes: Sequence[Episode]) -> list[Group]:
    """Groups after every stage in order; one that is left without members is dropped."""
    found = list(groups)
    for stage in stages:
        if isinstance(stage, Together):
            found = stage.together(found, episodes)
        else:
            found = [stage(group, episodes) for group in found]
        found = [group if group.members else group.without("no member left") for group in found]
    return found
