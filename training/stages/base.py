"""What a group stage is: a group in, a group out; some ask the rollout for more episodes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from sparring.envs.types import Episode

from ..groups import Group


class Stage(Protocol):
    """Pure: the same group and episodes give the same group. A dropped group passes through every later stage."""

    def __call__(self, group: Group, episodes: Sequence[Episode]) -> Group: ...


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

    def wants(self, groups: Sequence[Group], episodes: Sequence[Episode], round: int) -> list[Want]:
        """What to play next, given the groups so far as this stage sees them; nothing ends the rounds (0, 1, ...)."""
        ...
