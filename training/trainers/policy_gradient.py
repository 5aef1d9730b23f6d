"""Reinforcement: groups, stages, an advantage estimator and a policy loss over the turns of the trained roles."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from sparring.agents.engine import DEMONSTRATION
from sparring.scenarios.errors import ScenarioError
from sparring.scenarios.problems import unknown
from sparring.scenarios.registry import advantages, group_stages, losses, make
from sparring.scenarios.schema import Ref, located
from sparring.storage.records import AdvantageRow

from ..advantages.base import TokenAdvantage
from ..credit import credit, form
from ..pack import pack
from ..stages.base import Want
from ..stages.more import wanted
from .base import Made, Played, Staged

if TYPE_CHECKING:
    from sparring.envs.types import Episode
    from sparring.scenarios.schema import RoleSpec, Scenario

    from ..losses.base import Loss
    from ..stages.base import Stage

MAIN = "policy"


class PolicyGradient(Staged):
    """Policy gradient: turns compared in groups, each pulled by its advantage.

    Formula: grad J = E[sum over turns of advantage x grad log pi], with the mask, ratio and weights of ``loss``.
    Source: Williams 1992; the parts of the loss after HPT, arXiv 2509.04419.
    """

    class Config(BaseModel):
        """Absent: ``training.advantage``, ``training.loss`` and ``group.stages`` hold.

        ``nodes`` restricts it to turns of these graph nodes (none: all). ``losses`` maps how a turn came into its group
        (``inserted``, ``replaced``, ``demonstration``) to the loss of such turns.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")
        advantage: Ref | None = None
        loss: Ref | None = None
        stages: tuple[Ref, ...] | None = None
        nodes: tuple[str, ...] = ()
        losses: dict[str, Ref] = Field(default_factory=dict)

    def __init__(self, config: Config, scenario: Scenario) -> None:
        training = scenario.training
        self.nodes = config.nodes
        self.advantage: Any = make(advantages, config.advantage or training.advantage)
        self.losses: dict[str, Loss] = {MAIN: make(losses, config.loss or training.loss)}
        self.losses |= {note: make(losses, ref) for note, ref in config.losses.items()}
        twice = [name for name, loss in self.losses.items() if getattr(loss, "token_advantage", None) is not None]
        if twice and isinstance(self.advantage, TokenAdvantage):
            raise ScenarioError(
                f"trainer rl: the loss ({twice[0]}) and the advantage both spread rewards over tokens, so the KL "
                "would be lost or counted twice; give kl: to the advantage and take kl into: reward off the loss"
            )
        stages = scenario.group.stages if config.stages is None else config.stages
        self.stages: Sequence[Stage] = [make(group_stages, located(ref, scenario.base)) for ref in stages]
        self._check_ways(config.losses)

    def make(self, played: Played) -> Made:
        """Groups, advantages and rows of the trained roles' turns. Averages of roles live in ``state``."""
        held: Mapping[str, float] = played.state.get("baselines", {})
        earned = credit(played.episodes, played.roles, self.advantage, held, self.stages, self.nodes, played.rounds)
        played.state["baselines"] = dict(earned.baselines)
        shapes = self.shapes
        packed = pack(played.episodes, earned.advantages, played.roles, self.losses, self._loss_of, shapes)
        return Made(packed.rows, earned.groups, packed.advantages, shapes, dict(earned.figures))

    def _check_ways(self, named: Collection[str]) -> None:
        """Refuse a loss for turns that come in by no way: as a demonstration, or under the ``note`` of a stage."""
        stages = [*self.stages, *map(group_stages.get, group_stages.names() if named else ())]
        ways = {DEMONSTRATION, *(getattr(stage, "note", "") for stage in stages)} - {""}
        for name in named:
            if name not in ways:
                raise ScenarioError(f"trainer rl: losses: {unknown('way for turns to come in', name, sorted(ways))}")

    @property
    def shapes(self) -> dict[str, TokenAdvantage]:
        """By loss: the estimator that goes on to its tokens, if any; else what the loss takes off their rewards."""
        if isinstance(self.advantage, TokenAdvantage):
            return dict.fromkeys(self.losses, self.advantage)
        own = {name: getattr(loss, "token_advantage", None) for name, loss in self.losses.items()}
        return {name: shape for name, shape in own.items() if shape is not None}

    def wants(self, episodes: Sequence[Episode], roles: Mapping[str, RoleSpec], round: int, first: int) -> list[Want]:
        """What the stages ask to be played before the groups are final; the step began with ``first`` episodes."""
        groups = [
            group for role, spec in roles.items() if spec.trainable for group in form(episodes, role, spec, self.nodes)
        ]
        return wanted(self.stages, groups, episodes, round, first)

    def _loss_of(self, row: AdvantageRow) -> str:
        return row.note if row.note in self.losses else MAIN
