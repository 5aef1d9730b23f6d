"""Losses of scalar heads on the policy's hidden states: rewards of whole texts, values, rewards of steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from .base import Aggregate, Tokens

if TYPE_CHECKING:
    from torch import Tensor


class RewardHead:
    """Reward head: a score at a text's end learns its outcome, or which text of a pair is better.

    L = softplus(s) - y s (outcome); -log sigmoid(s_chosen - s_rejected) + centre (s_chosen + s_rejected)^2 (pairs).
    Source: Bradley-Terry as in arXiv 2203.02155; the centre, which fixes the zero pairs leave open, arXiv 2312.09244.
    Gradient: (sigmoid(s) - y) grad s; -sigmoid(s_rejected - s_chosen) grad (s_chosen - s_rejected).
    """

    class Config(BaseModel):
        """``form``: outcome (labels in [0, 1]) or pairs; ``centre``: weight of the squared sum of a pair's scores."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        form: Literal["outcome", "pairs"] = "outcome"
        centre: float = Field(default=0.0, ge=0)

    needs: frozenset[str] = frozenset({"score:reward"})
    every_token = True
    aggregate: Aggregate = "turns"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, tokens: Tokens) -> Tensor:
        """The sum of coefficient x loss over the last token of every text."""
        from torch.nn.functional import logsigmoid

        score_N = tokens.scores["reward"]
        if self.config.form == "outcome":
            return (tokens.coefficient_N * _cross_entropy(score_N, tokens.streams["label"])).sum()
        loss_N = -logsigmoid(tokens.sum_by(score_N * tokens.advantage_N.sign(), "unit"))
        if self.config.centre:
            loss_N = loss_N + self.config.centre * tokens.sum_by(score_N, "unit") ** 2
        return (tokens.coefficient_N * loss_N).sum()

    def figures(self, tokens: Tokens) -> Mapping[str, Tensor]:
        """``agrees``: the score's side of 0 is the label's, or the pair is the right way round; ``score``."""
        score_N = tokens.scores["reward"].detach()
        if self.config.form == "outcome":
            agrees_N = (score_N > 0) == (tokens.streams["label"] > 0.5)
        else:
            agrees_N = tokens.sum_by(score_N * tokens.advantage_N.sign(), "unit") > 0
        return {"score": score_N, "agrees": agrees_N.to(score_N.dtype)}


class ValueHead:
    """Value head: the value before each token learns the return.

    L = (v - R)^2 / 2; logistic: softplus(v) - R v, v the log odds of a return in [0, 1].
    Source: arXiv 1506.02438; logistic, as the step-wise outcome model of GLoRe, arXiv 2402.10963.
    Gradient: (v - R) grad v; (sigmoid(v) - R) grad v. Clipping to the old value belongs to PPO's own loss.
    """

    class Config(BaseModel):
        """``form``: squared, or logistic for returns that are chances."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        form: Literal["squared", "logistic"] = "squared"

    needs: frozenset[str] = frozenset({"score:value"})
    every_token = True
    aggregate: Aggregate = "tokens"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, tokens: Tokens) -> Tensor:
        """The sum of coefficient x loss."""
        value_N, return_N = tokens.scores["value"], tokens.streams["return"]
        if self.config.form == "logistic":
            loss_N = _cross_entropy(value_N, return_N)
        else:
            loss_N = 0.5 * (value_N - return_N) ** 2
        return (tokens.coefficient_N * loss_N).sum()

    def figures(self, tokens: Tokens) -> Mapping[str, Tensor]:
        """``value``, and ``error``: its squared distance from the return."""
        value_N = tokens.scores["value"].detach()
        said_N = value_N.sigmoid() if self.config.form == "logistic" else value_N
        return {"value": said_N, "error": (said_N - tokens.streams["return"]) ** 2}


class ProcessHead:
    """Process reward head: step scores learn step labels, or a text's mean score its outcome.

    L = softplus(s) - y s at every trained token; mean: s the mean over the row, so that tokens share one outcome and
    learn which of them it hangs on.
    Source: arXiv 2305.20050, soft labels 2312.08935; mean: OREAL, arXiv 2502.06781.
    Gradient: (sigmoid(s) - y) grad s.
    """

    class Config(BaseModel):
        """``form``: each trained token by itself, or the mean over the row."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        form: Literal["each", "mean"] = "each"

    needs: frozenset[str] = frozenset({"score:process"})
    every_token = True
    aggregate: Aggregate = "turns"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, tokens: Tokens) -> Tensor:
        """The sum of coefficient x loss."""
        return (tokens.coefficient_N * _cross_entropy(self._score(tokens), tokens.streams["label"])).sum()

    def figures(self, tokens: Tokens) -> Mapping[str, Tensor]:
        """``agrees``: the score's side of 0 is the label's; ``score``."""
        score_N = self._score(tokens).detach()
        agrees_N = (score_N > 0) == (tokens.streams["label"] > 0.5)
        return {"score": score_N, "agrees": agrees_N.to(score_N.dtype)}

    def _score(self, tokens: Tokens) -> Tensor:
        score_N = tokens.scores["process"]
        return tokens.mean_by(score_N, "row") if self.config.form == "mean" else score_N


class ImplicitReward:
    """Implicit process reward: the summed log-ratio to the reference learns the outcome.

    L = softplus(r) - y r, r = beta sum over the row (log pi - log reference); beta (log pi - log reference) is then
    each token's reward. What is so trained is a reward model: an adapter of its own, not the policy.
    Source: PRIME, arXiv 2502.01456.
    Gradient: (sigmoid(r) - y) beta sum grad log pi.
    """

    class Config(BaseModel):
        """``beta``: scale of the log-ratio (0.05 in PRIME)."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        beta: float = Field(default=0.05, gt=0)

    needs: frozenset[str] = frozenset({"reference"})
    every_token = True
    aggregate: Aggregate = "turns"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, tokens: Tokens) -> Tensor:
        """The sum of coefficient x loss."""
        return (tokens.coefficient_N * _cross_entropy(self._reward(tokens), tokens.streams["label"])).sum()

    def figures(self, tokens: Tokens) -> Mapping[str, Tensor]:
        """``agrees``: the reward's side of 0 is the label's; ``reward``, of the whole text."""
        reward_N = self._reward(tokens).detach()
        agrees_N = (reward_N > 0) == (tokens.streams["label"] > 0.5)
        return {"reward": reward_N, "agrees": agrees_N.to(reward_N.dtype)}

    def _reward(self, tokens: Tokens) -> Tensor:
        return self.config.beta * tokens.sum_by(tokens.logprob_N - tokens.reference_N, "row")


def _cross_entropy(score_N: Tensor, label_N: Tensor) -> Tensor:
    """softplus(s) - y s = -y log sigmoid(s) - (1 - y) log sigmoid(-s), safe at any s."""
    from torch.nn.functional import softplus

    return softplus(score_N) - label_N * score_N
