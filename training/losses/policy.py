"""Per-token policy losses: pure functions of log-probs and advantages, each with the gradient it really has.

Aggregation is not theirs: the trainer sums coefficient x loss, with the coefficients that ``pack`` derived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor


class Loss(Protocol):
    """Loss per token from new and old log-probs (nats, same shape) and advantages."""

    def __call__(self, logprob_T: Tensor, logprob_old_T: Tensor, advantage_T: Tensor) -> Tensor: ...


class ClipHigher:
    """-min(r A, clip(r, 1 - low, 1 + high) A), r = exp(logp - logp_old): PPO's clip with a higher ceiling.

    DAPO, arXiv 2503.14476. The gradient is -r A grad logp inside the clip, 0 where the clipped branch is the smaller.
    """

    class Config(BaseModel):
        """``low`` and ``high``: how far the ratio may fall and rise before the gradient stops."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        low: float = Field(default=0.2, gt=0, lt=1)
        high: float = Field(default=0.28, gt=0)

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, logprob_T: Tensor, logprob_old_T: Tensor, advantage_T: Tensor) -> Tensor:
        """Loss per token, same shape as the inputs."""
        ratio = (logprob_T - logprob_old_T).exp()
        clipped = ratio.clamp(1 - self.config.low, 1 + self.config.high)
        return -(ratio * advantage_T).minimum(clipped * advantage_T)


class Reinforce:
    """-A logp (REINFORCE, Williams 1992): no ratio, so right only when rows are trained once, on policy."""

    class Config(BaseModel):
        """No options."""

        model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    def __call__(self, logprob_T: Tensor, logprob_old_T: Tensor, advantage_T: Tensor) -> Tensor:
        """Loss per token, same shape as the inputs."""
        return -(advantage_T * logprob_T)
