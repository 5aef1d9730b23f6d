"""What a group stage is: a group in, a group out; some look at all groups at once, some ask the rollout for more."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from sparring.agents.conditions import RIGHT_AT as RIGHT_AT
from sparring.agents.engine import Renderer
from sparring.envs.types import Episode

from ..groups import Group


class Stage(Protocol):
    """Pure: the same group and episodes give the same group. A dropped group passes through every later stage.

    One that brings turns into groups names them: ``note`` is its class's, its members', and the key of their loss.
    """

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


@runtime_checkable
class Telling(Protocol):
    """A stage that says in numbers what it did; the step's metrics hold them as TRAINER/NAME/ROLE."""

    def figures(
        self, before: Sequence[Group], after: Sequence[Group], episodes: Sequence[Episode], rounds: Sequence[int]
    ) -> Mapping[str, float]:
        """By name (``rounds/drawn``), of one role's groups before and after this stage, in the same order.

        ``rounds``: how many episodes the step had after each round of play; the first is what it began with.
        """
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


def apply(
    stages: Sequence[Stage],
    groups: Sequence[Group],
    episodes: Sequence[Episode],
    figures: MutableMapping[str, float] | None = None,
    rounds: Sequence[int] = (),
) -> list[Group]:
    """Groups after every stage in order; one that is left without members is dropped.

    ``figures`` takes what stages say of themselves, by name and role; ``rounds`` is as in ``Telling``.
    """
    found = list(groups)
    for stage in stages:
        before = found
        if isinstance(stage, Together):
            found = stage.together(found, episodes)
        else:
            found = [stage(group, episodes) for group in found]
        found = [group if group.members else group.without("no member left") for group in found]
        if figures is not None and isinstance(stage, Telling):
            figures.update(_told(stage, before, found, episodes, rounds or (len(episodes),)))
    return found


def _told(
    stage: Telling, before: Sequence[Group], after: Sequence[Group], episodes: Sequence[Episode], rounds: Sequence[int]
) -> dict[str, float]:
    told: dict[str, float] = {}
    for role in dict.fromkeys(group.role for group in before):
        mine = [at for at, group in enumerate(before) if group.role == role]
        said = stage.figures([before[at] for at in mine], [after[at] for at in mine], episodes, rounds)
        told |= {f"{name}/{role}": float(value) for name, value in said.items()}
    return told
