"""Losses that make shown text likelier: weighted fine-tuning on turns, and next-token replay of general text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from .base import Aggregate, Tokens
from .distill import Direction

if TYPE_CHECKING:
    from torch import Tensor


class Supervised:
    """Fine-tuning: the turns shown become likelier; each turn's weight is in its coefficients.

    L = -log pi. With weight w it is REINFORCE of advantage w without ratio or mask, which is what cloning the best of
    N amounts to (OREAL's positive branch, arXiv 2502.06781).
    Source: RAFT, arXiv 2304.06767; ReST, arXiv 2308.08998.
    Gradient: -grad log pi.
    """

    class Config(BaseModel):
        """``aggregate``: how a step's turns share the gradient; with tokens every token counts alike."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        aggregate: Aggregate = "tokens"

    needs: frozenset[str] = frozenset()
    every_token = True

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.aggregate: Aggregate = self.config.aggregate

    def __call__(self, tokens: Tokens) -> Tensor:
        """The sum of coefficient x -logp."""
        return -(tokens.coefficient_N * tokens.logprob_N).sum()

    def figures(self, tokens: Tokens) -> Mapping[str, Tensor]:
        """``nll``: -logp in nats."""
        return {"nll": -tokens.logprob_N.detach()}


class NextToken:
    """Next-token replay: general text stays as likely as it was.

    L = -ce log pi + kl KL(reference || pi), the divergence over the whole vocabulary.
    Source: the label and logit forms of replay in GeRe, arXiv 2508.04676.
    Gradient: -ce grad log pi + kl sum_v (pi_v - reference_v) grad logit_v; the second is 0 while the policy still says
    what the reference says.
    """

    class Config(BaseModel):
        """``ce`` weighs the text's own next tokens, ``kl`` the reference's whole next-token distributions.

        ``kl`` above 0 needs a reference model of the same vocabulary.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")
        ce: float = Field(default=1.0, ge=0)
        kl: float = Field(default=0.0, ge=0)

    every_token = True
    aggregate: Aggregate = "tokens"
    direction: Direction = "forward"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.needs: frozenset[str] = frozenset(("teacher",) if self.config.kl else ())

    def __call__(self, tokens: Tokens) -> Tensor:
        """The sum of coefficient x loss."""
        loss_N = -self.config.ce * tokens.logprob_N
        if self.config.kl:
            assert tokens.divergence_N is not None  # asked for in needs
            loss_N = loss_N + self.config.kl * tokens.divergence_N
        return (tokens.coefficient_N * loss_N).sum()

    def figures(self, tokens: Tokens) -> Mapping[str, Tensor]:
        """``nll``: -logp in nats; ``kl``: the divergence from the reference, where it was computed."""
        found = {"nll": -tokens.logprob_N.detach()}
        return found if tokens.divergence_N is None else found | {"kl": tokens.divergence_N.detach()}
