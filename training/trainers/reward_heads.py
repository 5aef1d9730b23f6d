"""Heads that learn to judge: rewards of turns, values, rewards of steps, and the implicit reward of an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sparring.scenarios.errors import ScenarioError

from ..groups import Place
from ..losses.heads import ImplicitReward, ProcessHead, RewardHead, ValueHead
from ..rows import ADVANTAGE, LABEL, RETURN, Row
from .base import Made, Played
from .labels import after, in_unit, labelled
from .pairs import Pair, Pairing, find, paired
from .picks import RIGHT, Where, below, check_names, groups_of, outcome, spoken
from .policy_gradient import MAIN

if TYPE_CHECKING:
    from sparring.scenarios.schema import Scenario

    from ..losses.base import Loss


class RewardModel:
    """Reward head: a score at a turn's last token learns the turn's outcome, or which of two turns is better.

    L = softplus(s) - y s, y whether the score named ``outcome`` is at its maximum; pairs: -log sigmoid(s_+ - s_-).
    Source: InstructGPT, arXiv 2203.02155.
    Gradient: (sigmoid(s) - y) grad s, into the head, saved as ``reward``, and the policy under it.
    """

    class Config(Pairing, RewardHead.Config):
        """The options of the pairs (read when ``form`` is pairs) and of the loss; ``outcome``: the score to learn."""

        outcome: str = Field(default="verifier", min_length=1)

    def __init__(self, config: Config, scenario: Scenario) -> None:
        check_names(config, scenario)
        self.config = config
        own = RewardHead.Config(form=config.form, centre=config.centre)
        self.losses: Mapping[str, Loss] = {MAIN: RewardHead(own)}

    def make(self, played: Played) -> Made:
        """One trained token per turn; a role's coefficients add up to its weight."""
        if self.config.form == "pairs":
            found = [replace(one, pairs=tuple(map(_judged, one.pairs))) for one in find(played, self.config)]
            made = paired(found, played.roles, MAIN)
            made.rows = [after(row, ADVANTAGE) for row in made.rows]
            return made
        right = _outcomes(played, self.config, self.config.outcome)
        made = labelled(played, right, self.losses, MAIN, "ends", LABEL)
        made.rows = [after(row, LABEL) for row in made.rows]
        return made


class ValueModel:
    """Value head: the value before every token learns the turn's combined reward (with ``discount``, its return).

    L = (v - R)^2 / 2, or logistic for rewards that are chances. Alone it warms up the head that PPO goes on training.
    Source: as the baseline of GAE, arXiv 1506.02438.
    Gradient: (v - R) grad v, into the head, saved as ``value``, and the policy under it.
    """

    class Config(Where, ValueHead.Config):
        """Which turns, and the form of the loss."""

    def __init__(self, config: Config, scenario: Scenario) -> None:
        check_names(config, scenario)
        self.config = config
        self.losses: Mapping[str, Loss] = {MAIN: ValueHead(ValueHead.Config(form=config.form))}

    def make(self, played: Played) -> Made:
        """Every token of every valued turn; a role's coefficients add up to its weight."""
        found = {member.place: member.reward for group in groups_of(played, self.config) for member in group.members}
        kept, strange = in_unit(dict(found)) if self.config.form == "logistic" else (found, 0)
        made = labelled(played, kept, self.losses, MAIN, "tokens", RETURN)
        made.figures |= {"not_a_chance": float(strange)} if strange else {}
        return made


class ProcessModel:
    """Process reward head: the score at each turn's end, or of each token, learns the label of that step.

    L = softplus(s) - y s. A step's label is its own score named ``labels``, else the mean of that score over the turns
    that came of it. ends: read once per turn; tokens: at every token; mean: s the mean over a turn's tokens.
    Source: arXiv 2305.20050; labels from what follows, arXiv 2312.08935; mean, OREAL, arXiv 2502.06781.
    Gradient: (sigmoid(s) - y) grad s, into the head, saved as ``process``, and the policy under it.
    """

    class Config(Where):
        """``labels``: the score that says how good a step was, in [0, 1]; ``at``: where the head is read."""

        labels: str = Field(default="verifier", min_length=1)
        at: Literal["ends", "tokens", "mean"] = "ends"

    def __init__(self, config: Config, scenario: Scenario) -> None:
        check_names(config, scenario)
        self.config = config
        form: Literal["each", "mean"] = "mean" if config.at == "mean" else "each"
        self.losses: Mapping[str, Loss] = {MAIN: ProcessHead(ProcessHead.Config(form=form))}

    def make(self, played: Played) -> Made:
        """Every turn with a label; a role's coefficients add up to its weight."""
        found: dict[Place, float | None] = {}
        for place in spoken(played, self.config):
            episode = played.episodes[place.episode]
            own = outcome(episode, place.turn, self.config.labels)
            found[place] = below(episode, place.turn, self.config.labels) if own is None else own
        kept, strange = in_unit(found)
        at: Literal["ends", "tokens", "texts"] = "texts" if self.config.at == "mean" else self.config.at
        made = labelled(played, kept, self.losses, MAIN, at, LABEL)
        made.rows = [after(row, LABEL) for row in made.rows]
        made.figures |= {"not_a_chance": float(strange)} if strange else {}
        return made


class ImplicitProcess:
    """Implicit process reward: an adapter whose log-ratio to the reference learns the outcome.

    L = softplus(r) - y r, r = beta sum (log adapter - log reference); beta (log adapter - log reference) is then each
    token's reward. It is trained beside the policy, in a LoRA adapter of its own which no role may speak with.
    Source: PRIME, arXiv 2502.01456.
    Gradient: (sigmoid(r) - y) beta sum grad log adapter.
    """

    class Config(Where, ImplicitReward.Config):
        """``adapter``: the LoRA adapter that becomes the reward model; ``outcome``: the score it learns."""

        adapter: str = Field(default="implicit_reward", min_length=1)
        outcome: str = Field(default="verifier", min_length=1)

    def __init__(self, config: Config, scenario: Scenario) -> None:
        check_names(config, scenario)
        if scenario.policy.lora is None:
            raise ScenarioError(
                "trainer implicit_reward trains a LoRA adapter of its own; set policy.lora, as {rank: 16}"
            )
        speaks = [name for name, spec in scenario.roles.items() if spec.adapter == config.adapter]
        if speaks:
            raise ScenarioError(
                f"trainer implicit_reward: role {speaks[0]!r} speaks with adapter {config.adapter!r}; "
                "give one of them another"
            )
        self.config = config
        self.adapters = (config.adapter,)  # what must be put into the policy beside the roles' own
        self.losses: Mapping[str, Loss] = {MAIN: ImplicitReward(ImplicitReward.Config(beta=config.beta))}

    def make(self, played: Played) -> Made:
        """Each judged turn in a row of its own; a role's coefficients add up to its weight."""
        found = _outcomes(played, self.config, self.config.outcome)
        made = labelled(played, found, self.losses, MAIN, "texts", LABEL)
        made.rows = [replace(row, adapter=self.config.adapter) for row in made.rows]
        return made


def _outcomes(played: Played, where: Where, name: str) -> dict[Place, float]:
    """1 for right, 0 for wrong; turns without a valued outcome are left out."""
    found = {place: outcome(played.episodes[place.episode], place.turn, name) for place in spoken(played, where)}
    return {place: float(value >= RIGHT) for place, value in found.items() if value is not None}


def _judged(pair: Pair) -> Pair:
    """Both sides, each read at the last token of its last turn."""
    return Pair(*(_at_end(row) for row in pair))


def _at_end(row: Row) -> Row:
    return replace(row, coefficient_T=[0.0] * (len(row.token_ids) - 1) + [1.0], spans=row.spans[-1:])
