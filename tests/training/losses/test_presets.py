"""Every named policy loss against its closed form: value, and gradient in the logits of a tabular softmax."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sparring.training.losses import offpolicy, presets
from sparring.training.losses.base import Tokens
from sparring.training.losses.policy import PolicyGradient

Packed = Callable[..., Tokens]
Tabular = Callable[..., Tensor]
Form = Callable[[float, float, float], tuple[float, float]]  # ratio, advantage, log pi -> loss, d loss / d log pi

ALL = {
    name: part
    for module in (presets, offpolicy)
    for name, part in vars(module).items()
    if inspect.isclass(part) and issubclass(part, PolicyGradient) and part is not PolicyGradient
}
RATIOS = (0.1, 0.39, 0.41, 0.79, 0.81, 1.0, 1.19, 1.21, 1.27, 1.29, 2.9, 3.1, 6.0)
ADVANTAGES = (1.5, -0.7)


def clipped(low: float, high: float) -> Form:
    def form(r: float, a: float, logp: float) -> tuple[float, float]:
        stopped = r > 1 + high if a > 0 else r < 1 - low
        return -min(r * a, min(max(r, 1 - low), 1 + high) * a), 0.0 if stopped else -r * a

    return form


def weighed(weight: Callable[[float, float], float]) -> Form:
    return lambda r, a, logp: (-weight(r, a) * a * logp, -weight(r, a) * a)


def dppo(r: float, a: float, logp: float) -> tuple[float, float]:
    pi, kept = math.exp(logp), 0.0
    if math.copysign(1, a) * (pi - pi / r) <= 0.2:
        kept = 1.0
    return -kept * r * a + 0.001 * math.log(r) ** 2, -kept * r * a + 0.002 * math.log(r)


def shaped(r: float, a: float, logp: float) -> tuple[float, float]:
    p = math.exp(logp)
    return -a * p / (p + 0.1), -a * 0.1 * p / (p + 0.1) ** 2


def opmd(r: float, a: float, logp: float) -> tuple[float, float]:
    return -a * logp + 0.1 * math.log(r) ** 2, -a + 0.2 * math.log(r)


def oreal(r: float, a: float, logp: float) -> tuple[float, float]:
    value, slope = (-a * logp, -a) if a > 0 else clipped(0.2, 0.2)(r, 0.5 * a, logp)
    return value + 0.01 * 0.25**2 / 2, slope + 0.01 * 0.25  # the reference is 0.25 nats below everywhere


def ppo(r: float, a: float, logp: float) -> tuple[float, float]:
    value, slope = clipped(0.2, 0.2)(r, a, logp)
    return value + 0.5 * 0.3**2 / 2, slope  # every value is 0.3 above its return and where it was


def two_side(r: float, a: float) -> float:
    return r if 0.8 <= r <= 1.2 else 0.0


FORMS: dict[str, Form] = {
    "Reinforce": weighed(lambda r, a: 1.0),
    "Grpo": clipped(0.2, 0.2),
    "DrGrpo": clipped(0.2, 0.2),
    "Dapo": clipped(0.2, 0.28),
    "Gspo": clipped(3e-4, 4e-4),
    "Cispo": weighed(lambda r, a: min(r, 5.0)),
    "Ppo": ppo,
    "ReinforcePlusPlus": clipped(0.2, 0.2),
    "Dppo": dppo,
    "Shaped": shaped,
    "Topr": weighed(lambda r, a: 1.0 if a > 0 else min(r, 1.0)),
    "AsymRe": lambda r, a, logp: (-(a + 0.1) * logp, -(a + 0.1)),
    "Opmd": opmd,
    "RecOneSide": weighed(lambda r, a: float(r <= 1.2 if a > 0 else r >= 0.8)),
    "RecTwoSide": lambda r, a, logp: (-two_side(r, a) * a, -two_side(r, a) * a),
    "RecRing": weighed(lambda r, a: float(0.8 <= r <= 1.2 or (r <= 0.4 if a > 0 else r >= 3.0))),
    "RedWeight": weighed(lambda r, a: math.exp(a)),
    "Psr": weighed(lambda r, a: float(a > 0)),
    "Nsr": weighed(lambda r, a: float(a < 0)),
    "WReinforce": weighed(lambda r, a: 0.1 if a > 0 else 1.0),
    "Oreal": oreal,
}
ON_POLICY = set(ALL) - {"AsymRe", "RedWeight", "Psr", "Nsr", "WReinforce", "Shaped", "Oreal", "Ppo"}


def test_every_preset_has_a_closed_form_here() -> None:
    assert set(FORMS) == set(ALL)


@pytest.mark.parametrize("name", sorted(ALL))
def test_value_and_gradient_are_the_closed_form(name: str, packed: Packed, tabular: Tabular) -> None:
    ratio, advantage = map(list, zip(*itertools.product(RATIOS, ADVANTAGES), strict=True))
    logits = tabular(states=len(ratio))
    drawn = torch.arange(len(ratio)) % 8
    logprob = logits.log_softmax(-1).gather(-1, drawn[:, None]).squeeze(-1)
    value, zeros = torch.ones(len(ratio), dtype=torch.float64), torch.zeros(len(ratio), dtype=torch.float64)
    more = {"reference": logprob.detach() - 0.25, "return": zeros + 0.7, "value": value, "score_value": value}
    loss = ALL[name]().per_token(packed(logprob, advantage, ratio, **more))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    forms = [FORMS[name](*point) for point in zip(ratio, advantage, logprob.tolist(), strict=True)]
    onehot = torch.nn.functional.one_hot(drawn, 8) - logits.detach().softmax(-1)
    torch.testing.assert_close(loss.detach(), torch.tensor([form[0] for form in forms], dtype=torch.float64))
    slopes = torch.tensor([form[1] for form in forms], dtype=torch.float64)
    torch.testing.assert_close(gradient, slopes[:, None] * onehot)


@pytest.mark.parametrize("name", sorted(ON_POLICY))
def test_on_policy_the_gradient_is_reinforces(name: str, packed: Packed, tabular: Tabular) -> None:
    logits = tabular(states=6)
    gradients = []
    for part in (ALL[name](), presets.Reinforce()):
        logprob = logits.log_softmax(-1)[:, 3]
        tokens = packed(logprob, [1.0, 1.0, -0.5, -0.5, -0.5, 0.2], [1.0] * 6, [2, 3, 1], reference=logprob.detach())
        gradients.append(torch.autograd.grad(part(tokens), logits)[0])
    torch.testing.assert_close(*gradients)


def test_who_averages_over_trajectories_and_who_by_a_constant() -> None:
    other = {name: part().aggregate for name, part in ALL.items() if part().aggregate != "tokens"}
    assert other == {"Grpo": "trajectories", "Gspo": "trajectories", "DrGrpo": "constant"}
    assert presets.DrGrpo(presets.DrGrpo.Config(length=77)).length == 77


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_preset_tells_formula_source_and_gradient(name: str) -> None:
    first, _, *rest = inspect.cleandoc(ALL[name].__doc__ or "").splitlines()
    assert first.endswith(".") and [line.split()[0] for line in rest] == ["L", "Source:", "Gradient:"]


@pytest.mark.parametrize("name", sorted(ALL))
def test_options_survive_being_saved(name: str) -> None:
    config = ALL[name].Config()
    assert ALL[name].Config.model_validate(config.model_dump(mode="json", by_alias=True)) == config


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, set()),
        ({"kl": {"coefficient": 0.1}}, {"reference"}),
        ({"old": "start"}, {"start"}),
        ({"entropy": 0.01}, {"entropy"}),
        ({"value": {}}, {"score:value"}),
    ],
)
def test_a_loss_asks_for_what_its_options_read(options: dict[str, object], needs: set[str]) -> None:
    assert PolicyGradient(PolicyGradient.Config.model_validate(options)).needs == needs


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"correction": [{}]}, "set old: start"),
        ({"ceiling": 3.0}, "mask: clip"),
        ({"mask": "clip", "ceiling": 1.1}, "over 1 \\+ high"),
        ({"denominator": "now", "negative_ratio": (2.0, 1.0)}, "from low to high"),
        ({"positive_ratio": (0.0, 5.0)}, "needs denominator: now"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PolicyGradient.Config.model_validate(options)
