"""Losses of scalar heads on the policy's hidden states: rewards of whole texts, values, rewards of steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from .base import Aggregate, Tokens

if TYPE_CHECKING:
    from torch import Tensor


class RewardHead:
    """Binary cross-entropy of a text's score with its outcome, or Bradley-Terry on pairs (arXiv 2203.02155).

    outcome: softplus(s) - y s, gradient (sigmoid(s) - y) grad s. pairs: -log sigmoid(s_chosen - s_rejected), gradient
    -sigmoid(s_rejected - s_chosen) grad (s_chosen - s_rejected); ``centre`` adds its weight times
    (s_chosen + s_rejected)^2, which fixes the zero that pairs leave open (arXiv 2312.09244).
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
    """(v - R)^2 / 2 of the value before each token, or its cross-entropy with returns in [0, 1] (arXiv 2402.10963).

    squared: gradient (v - R) grad v. logistic: softplus(v) - R v, gradient (sigmoid(v) - R) grad v: v is then the log
    odds of being right in the end. Clipping to the old value belongs to PPO's own loss.
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
    """Binary cross-entropy of step scores with step labels, or of a text's mean score with its outcome.

    each: softplus(s) - y s at every trained token, gradient (sigmoid(s) - y) grad s (arXiv 2305.20050; soft labels
    from roll-outs, arXiv 2312.08935). mean: the same with s the mean over the row, so that tokens share one outcome
    and learn which of them it hangs on (OREAL, arXiv 2502.06781).
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
    """Cross-entropy of beta x the summed log-ratio to the reference with the outcome (PRIME, arXiv 2502.01456).

    r = beta sum (logp - reference); softplus(r) - y r, gradient (sigmoid(r) - y) beta grad sum logp. What is so trained
    is a reward model whose token rewards are beta (logp - reference): an adapter of its own, not the policy.
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
