"""Whatever the ratios: finite values and gradients (R1-Reward's extreme log-ratios of +-50, and far beyond)."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparring.training.losses import offpolicy, presets
from sparring.training.losses.base import Tokens
from sparring.training.losses.policy import PolicyGradient

PRESETS = sorted(
    (
        part
        for module in (presets, offpolicy)
        for part in vars(module).values()
        if inspect.isclass(part) and issubclass(part, PolicyGradient)
    ),
    key=lambda part: part.__name__,
)
EXTRAS: list[dict[str, Any]] = [
    {},
    {"kl": {"coefficient": 0.1, "estimate": "k3", "ratio": True}},
    {
        "old": "start",
        "correction": [{}, {"mode": "mask", "level": "sequence"}, {"mode": "reject", "level": "geometric"}],
    },
    {"level": "product", "drift": 0.1},
    {"level": "sequence_token", "preclip": 1000.0, "tilt": 0.01, "length_cost": 0.1},
]
gaps = st.floats(-120.0, 120.0)
token = st.tuples(st.floats(-30.0, 0.0), gaps, gaps, gaps, st.floats(-4.0, 4.0) | st.just(4.0))


def tokens_of(drawn: list[tuple[float, ...]]) -> Tokens:
    """Float32, as they are trained: log-prob, its distances to old, start and reference, advantage."""
    logprob, old, start, reference, advantage = torch.tensor(drawn, dtype=torch.float32).unbind(-1)
    unit = torch.arange(len(drawn)) // 3
    streams = {"logprob_old": logprob - old, "start": logprob - start, "reference": logprob - reference}
    streams |= {"advantage": advantage, "return": advantage, "value": 0 * advantage}
    scores = {"value": advantage.clone()}
    return Tokens(logprob.clone().requires_grad_(), torch.full((len(drawn),), 0.1), unit, unit, streams, None, scores)


@pytest.mark.parametrize("extra", EXTRAS, ids=str)
@given(drawn=st.lists(token, min_size=1, max_size=7), part=st.sampled_from(PRESETS))
def test_any_ratio_gives_a_finite_loss_and_gradient(
    extra: dict[str, Any], drawn: list[tuple[float, ...]], part: type[PolicyGradient]
) -> None:
    tokens = tokens_of(drawn)
    loss = part(part.Config.model_validate(extra))
    value = loss(tokens)
    value.backward()
    assert value.isfinite()
    assert tokens.logprob_N.grad is not None and tokens.logprob_N.grad.isfinite().all()
    assert all(column.isfinite().all() for column in loss.figures(tokens).values())


@given(drawn=st.lists(token, min_size=1, max_size=7), part=st.sampled_from(PRESETS))
def test_a_token_has_the_same_loss_in_any_micro_batch(
    drawn: list[tuple[float, ...]], part: type[PolicyGradient]
) -> None:
    # units stay whole; nothing else in the batch is looked at
    loss = part()
    apart = [loss.per_token(tokens_of(drawn[at : at + 3])) for at in range(0, len(drawn), 3)]
    torch.testing.assert_close(torch.cat(apart), loss.per_token(tokens_of(drawn)))


def test_an_advantage_that_is_no_number_is_not_hidden() -> None:
    tokens = tokens_of([(-1.0, 0.0, 0.0, 0.0, float("nan"))])
    assert not any(part()(tokens).isfinite() for part in PRESETS)
