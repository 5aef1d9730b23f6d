"""Preference losses: a unit holds a chosen and a rejected text, told apart by the sign of their advantage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .base import Aggregate, Tokens

if TYPE_CHECKING:
    from torch import Tensor

Form = Literal["sigmoid", "hinge", "ipo", "simpo"]


class Preference:
    """Preference: the chosen text of a pair gains on the rejected one, relative to a reference (DPO).

    L = -(1 - s) log sigmoid(beta h) - s log sigmoid(-beta h), h = sum of chosen log-ratios pi / reference - sum of
    rejected ones, s the label smoothing. hinge: max(0, 1 - beta h). ipo: (h - 1 / (2 beta))^2 with means in h for sums,
    as TRL reads it. simpo: sigmoid's form of beta h - margin with mean log pi in h and no reference. ``nll`` adds
    -mean log pi of the chosen text. A pair's own s is read from the size of its advantages, 1 - 2 s.
    Source: DPO, arXiv 2305.18290; hinge 2305.10425; ipo 2310.12036; simpo 2405.14734; nll 2404.19733; visits
    2405.00451.
    Gradient: -beta (sigmoid(-beta h) - s) grad h: the surer the order already is, the less.
    """

    class Config(BaseModel):
        """``form`` and ``beta`` (for simpo 2.0 is usual); ``margin`` (simpo only); ``smoothing`` (sigmoid and simpo):
        the chance s that a pair is the wrong way round, or ``visits``: each pair's own, 1 / (N chosen / N rejected + 1)
        with N the score ``visits``; pairs whose s would not be below 0.5 are left out. ``nll``: weight of the chosen
        text's own likelihood.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")
        form: Form = "sigmoid"
        beta: float = Field(default=0.1, gt=0)
        margin: float = Field(default=0.0, ge=0)
        smoothing: Annotated[float, Field(ge=0, lt=0.5)] | Literal["visits"] = 0.0
        nll: float = Field(default=0.0, ge=0)

        @model_validator(mode="after")
        def _fits(self) -> Preference.Config:
            if self.margin and self.form != "simpo":
                raise ValueError(f"margin is simpo's; form {self.form!r} takes none. Drop it or set form: simpo")
            if self.smoothing and self.form not in ("sigmoid", "simpo"):
                raise ValueError(f"smoothing is for sigmoid and simpo; form {self.form!r} takes none. Drop it")
            return self

    every_token = True
    aggregate: Aggregate = "tokens"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.needs: frozenset[str] = frozenset(() if self.config.form == "simpo" else ("reference",))

    def __call__(self, tokens: Tokens) -> Tensor:
        """The sum of coefficient x the loss of the token's pair; a pair's coefficients add up to its share."""
        from torch.nn.functional import logsigmoid

        config, h_N = self.config, self.difference(tokens)
        if config.form == "ipo":
            loss_N = (h_N - 1 / (2 * config.beta)) ** 2
        elif config.form == "hinge":
            loss_N = (1 - config.beta * h_N).relu()
        else:
            z_N = config.beta * h_N - config.margin
            s_N = (1 - tokens.advantage_N.abs()) / 2 if config.smoothing == "visits" else config.smoothing
            loss_N = -(1 - s_N) * logsigmoid(z_N) - s_N * logsigmoid(-z_N)
        if config.nll:
            loss_N = loss_N - config.nll * _mean(tokens, tokens.logprob_N, tokens.advantage_N > 0)
        return (tokens.coefficient_N * loss_N).sum()

    def difference(self, tokens: Tokens) -> Tensor:
        """h of each token's pair (N,): a sum over tokens for sigmoid and hinge, of means for ipo and simpo."""
        from torch import where

        chosen_N, x_N = tokens.advantage_N > 0, tokens.logprob_N
        if self.config.form != "simpo":
            x_N = x_N - tokens.reference_N
        if self.config.form in ("ipo", "simpo"):
            return _mean(tokens, x_N, chosen_N) - _mean(tokens, x_N, ~chosen_N)
        return tokens.sum_by(where(chosen_N, x_N, -x_N), "unit")

    def figures(self, tokens: Tokens) -> Mapping[str, Tensor]:
        """``margin``: beta h of the token's pair; ``agrees``: whether it is above 0."""
        margin_N = self.config.beta * self.difference(tokens).detach()
        return {"margin": margin_N, "agrees": (margin_N > 0).to(margin_N.dtype)}


def _mean(tokens: Tokens, x_N: Tensor, side_N: Tensor) -> Tensor:
    """Mean of ``x_N`` over one side of each unit, handed to all of the unit's tokens."""
    weight_N = side_N.to(x_N.dtype)
    return tokens.sum_by(x_N * weight_N, "unit") / tokens.sum_by(weight_N, "unit").clamp(min=1)
