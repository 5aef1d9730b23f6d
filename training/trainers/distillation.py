"""Distillation on what was played: the policy's next-token distributions are drawn to a teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from ..losses.distill import Direction, Distillation
from .base import Made, Played
from .labels import told
from .picks import Choice, Keep, check_names, choose, groups_of, spoken
from .policy_gradient import MAIN

if TYPE_CHECKING:
    from sparring.scenarios.schema import Scenario

    from ..losses.base import Loss


class TeacherMatching:
    """Distillation: next-token distributions are drawn to a teacher's, on the policy's own turns or on given ones.

    L = KL(pi || teacher) on own samples (on-policy), KL(teacher || pi) on demonstrations. The teacher is
    ``training.reference``: a model of the same vocabulary, or the policy as the run began.
    Source: GKD, arXiv 2306.13649; on wrong answers only, KDRL, arXiv 2506.02208.
    Gradient: to the logits, pi (log pi - log teacher - KL); forward pi - teacher.
    """

    class Config(Choice):
        """Which turns, see ``keep`` (all: also turns nothing judged), and ``direction`` of the divergence.

        ``aggregate``: tokens (every token alike), trajectories, turns.
        """

        keep: Keep = "all"
        unique: bool = False
        direction: Direction = "reverse"
        aggregate: Literal["tokens", "turns", "trajectories"] = "tokens"

    def __init__(self, config: Config, scenario: Scenario) -> None:
        check_names(config, scenario)
        self.config = config
        own = Distillation.Config(direction=config.direction, aggregate=config.aggregate)
        self.losses: Mapping[str, Loss] = {MAIN: Distillation(own)}

    def make(self, played: Played) -> Made:
        """One row per conversation with a chosen turn; a role's coefficients add up to its weight."""
        config = self.config
        if config.keep == "all" and config.threshold is None and not config.unique:
            places = spoken(played, config)
        else:
            places = [
                group.members[at].place
                for group in groups_of(played, config, shown=config.keep == "demonstrations")
                for at in choose(group, played.episodes, config)
            ]
        return told(played, dict.fromkeys(places, 1.0), self.losses, MAIN)
