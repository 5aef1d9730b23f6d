"""What stages ask the rollout for before the groups are final. The asking itself is each stage's own business."""

from __future__ import annotations

from collections.abc import Sequence

from sparring.envs.types import Episode

from ..groups import Group
from .base import Asking, Stage, Want


def wanted(stages: Sequence[Stage], groups: Sequence[Group], episodes: Sequence[Episode], round: int) -> list[Want]:
    """Every stage's wants, each seeing the groups as the stages before it leave them."""
    found: list[Want] = []
    seen = list(groups)
    for stage in stages:
        if isinstance(stage, Asking):
            found += stage.wants(seen, episodes, round)
        seen = [stage(group, episodes) for group in seen]
    return found
