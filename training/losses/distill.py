"""Distillation: the policy's whole next-token distributions against a teacher's, on whoever's text the rows hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from .base import Aggregate, Tokens

if TYPE_CHECKING:
    from torch import Tensor

Direction = Literal["forward", "reverse"]


class Distillation:
    """Distillation: whole next-token distributions are drawn to a teacher's, token by token.

    L = KL(pi || teacher), reverse, which seeks the teacher's mode, or KL(teacher || pi), forward, which covers it.
    Source: GKD, arXiv 2306.13649.
    Gradient: to the logits, reverse pi (log pi - log teacher - KL), forward pi - teacher. On the policy's own samples
    the expected sum of the reverse form over a turn is the KL of whole answers; its gradient here leaves out that an
    early token changes later states, as GKD does (MiniLLM, arXiv 2306.08543, adds it by policy gradient).
    """

    class Config(BaseModel):
        """``direction``: reverse for the policy's own samples (on-policy), forward for given text.

        ``aggregate``: how a step's turns share the gradient.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")
        direction: Direction = "reverse"
        aggregate: Aggregate = "tokens"

    needs: frozenset[str] = frozenset({"teacher"})
    every_token = True

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.aggregate: Aggregate = self.config.aggregate
        self.direction: Direction = self.config.direction

    def __call__(self, tokens: Tokens) -> Tensor:
        """The sum of coefficient x divergence."""
        assert tokens.divergence_N is not None  # asked for in needs
        return (tokens.coefficient_N * tokens.divergence_N).sum()

    def figures(self, tokens: Tokens) -> Mapping[str, Tensor]:
        """``kl``: the divergence in nats."""
        assert tokens.divergence_N is not None
        return {"kl": tokens.divergence_N.detach()}
