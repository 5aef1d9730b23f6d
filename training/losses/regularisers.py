"""Terms beside the policy term: a tether to the old policy, entropy, length, and the value head's error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from sparring.scenarios.errors import TrainingStopped

from .base import Tokens

if TYPE_CHECKING:
    from torch import Tensor


class Value(BaseModel):
    """The value head's share of the loss: ``coefficient`` 0.5 times half its squared error.

    ``clip`` 0.2: how far a value may move from what it was before the update; absent: no bound.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    coefficient: float = Field(default=0.5, gt=0)
    clip: float | None = Field(default=0.2, gt=0)


def value_error(tokens: Tokens, clip: float | None) -> Tensor:
    """max((v - R)^2, (v clipped to v_old +- clip - R)^2) / 2 per token (N,), R from the stream ``return``.

    PPO2's form: the gradient stops once v left the band on the side of a smaller error (verl and TRL do the same).
    Raises ``TrainingStopped`` where no returns came.
    """
    if "return" not in tokens.streams:
        raise TrainingStopped("a value head learns returns and none came; choose an advantage that gives them: gae")
    now_N, goal_N = tokens.scores["value"], tokens.streams["return"]
    error_N = (now_N - goal_N).square()
    if clip is not None:
        old_N = tokens.streams["value"]
        held_N = old_N + (now_N - old_N).clamp(-clip, clip)
        error_N = error_N.maximum((held_N - goal_N).square())
    return error_N / 2


def entropy(tokens: Tokens) -> Tensor:
    """The entropy of each next-token distribution (N,) in nats, with gradient; an exact one, no estimate."""
    if tokens.entropy_N is None:
        raise ValueError("an entropy bonus needs the entropies; the loss says so in `needs`")
    return tokens.entropy_N


def tether(logprob_N: Tensor, old_N: Tensor) -> Tensor:
    """(log pi - log pi_old)^2 / 2 per token: Kimi's OPMD (arXiv 2501.12599), prime-rl's DPPO. 0 on policy."""
    return (logprob_N - old_N).square() / 2


def length_share(tokens: Tokens, length: int) -> Tensor:
    """Trained tokens of each token's trajectory over ``length`` (N,): times a price, what its length costs."""
    return tokens.sum_by(tokens.logprob_N.new_ones(tokens.logprob_N.shape), "unit") / length
