"""The policy loss, composed: stabilisation mask x advantage x likelihood over its denominator, plus regularisers.

The parts are pure functions in the files beside this one; named compositions are in ``presets`` and ``offpolicy``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from . import stable
from .base import Aggregate, Tokens
from .correction import Correction, effective_share, importance, mismatch
from .gradient import Denominator, likelihood, shaped
from .kl import Kl, RewardKl, estimate
from .ratio import BOUND, Level, bounded_exp, log_ratio
from .regularisers import Value, entropy, length_share, tether, value_error

if TYPE_CHECKING:
    from torch import Tensor

Bounds = tuple[float, float]


class Parts(NamedTuple):
    """The estimator's parts, each (N,): the policy term is -stable x weight x advantage x likelihood.

    ``held_N`` stands for the likelihood where ``stable_N`` is off: it has a value (PPO's clipped branch) but no
    gradient. ``ratio_N`` is exp(log pi - log old) with gradient, before any mask.
    """

    stable_N: Tensor
    weight_N: Tensor
    advantage_N: Tensor
    likelihood_N: Tensor
    held_N: Tensor
    ratio_N: Tensor


class PolicyGradient:
    """Any composition of the four parts: mask, denominator, advantage, likelihood gradient.

    L = -1[stable] w A phi, grad phi = grad pi / denominator; w = importance and token weights.
    Source: the unified policy gradient estimator of HPT, arXiv 2509.04419.
    Gradient: -1[stable] w A r grad log pi with the ratio r where the denominator is ``old``; regularisers add theirs.
    """

    class Config(BaseModel):
        """Every option of every policy loss; presets differ in their defaults only.

        Denominator: ``denominator`` is ``old`` (the ratio pi / pi_old), ``now`` (log pi) or ``one`` (pi). ``old`` says
        whose log-probs that are: the ``engine``'s (bypass), or the trainer's at the ``start`` of the step (decoupled;
        then ``correction`` lists weights f(pi_start / pi_engine), on the policy term only). ``level``: one ratio per
        ``token``, per trajectory as a geometric mean (``sequence``, or ``sequence_token`` with each token's own
        gradient) or as a ``product``. ``preclip`` clamps log-ratios to +-its logarithm first (1000 in R1-Reward).

        Mask: ``mask`` is ``none``, ``clip`` (PPO's, with ``ceiling`` a dual clip for A < 0), ``one_side``,
        ``two_side``, ``ring`` or ``probability``. ``low`` and ``high`` are distances of the ratio from 1, ``outer_low``
        and ``outer_high`` the ring's outer ones, ``trust`` the distance in probability. ``drift`` drops trajectories of
        A < 0 whose mean log-prob fell by more.

        Advantage: A becomes ``positive`` A or ``negative`` A by its sign, times exp(A / ``tilt``), plus ``shift``,
        minus ``length_cost`` x tokens of the trajectory / ``length``. Where the denominator is ``now``, the detached
        ratio weighs a token between the bounds ``positive_ratio`` or ``negative_ratio``; [1, 1] leaves it out.
        ``clone``: tokens of A > 0 take log pi without mask or ratio, whatever holds for the others.

        Likelihood: ``gradient`` is ``plain``, or ``shaped``: p / (p + ``gamma``) without mask, ratio and correction,
        for text the policy did not sample.

        Regularisers: ``kl`` to the reference; ``tether`` x (log pi - log old)^2 / 2; ``entropy`` x the entropy, as a
        bonus; ``value``, the value head's error. All are averaged like the policy term: ``aggregate`` over the role's
        ``tokens``, ``trajectories`` (means of token means), ``turns`` or by a ``constant`` ``length`` per trajectory.
        """

        model_config = ConfigDict(frozen=True, extra="forbid")
        denominator: Denominator = "old"
        old: Literal["engine", "start"] = "engine"
        correction: tuple[Correction, ...] = ()
        level: Level = "token"
        preclip: float | None = Field(default=None, gt=1)
        mask: stable.Mask = "none"
        low: float = Field(default=0.2, gt=0, le=1)
        high: float = Field(default=0.2, gt=0)
        ceiling: float | None = Field(default=None, gt=1)
        outer_low: float = Field(default=0.6, gt=0, le=1)
        outer_high: float = Field(default=2.0, gt=0)
        trust: float = Field(default=0.2, gt=0)
        drift: float | None = Field(default=None, ge=0)
        positive: float = Field(default=1.0, ge=0)
        negative: float = Field(default=1.0, ge=0)
        tilt: float | None = Field(default=None, gt=0)
        shift: float = 0.0
        length_cost: float = Field(default=0.0, ge=0)
        positive_ratio: Bounds = (1.0, 1.0)
        negative_ratio: Bounds = (1.0, 1.0)
        clone: bool = False
        gradient: Literal["plain", "shaped"] = "plain"
        gamma: float = Field(default=0.1, gt=0)
        kl: Kl | None = None
        tether: float = Field(default=0.0, ge=0)
        entropy: float = 0.0
        value: Value | None = None
        aggregate: Aggregate = "tokens"
        length: int = Field(default=1024, gt=0)

        @model_validator(mode="after")
        def _check(self) -> PolicyGradient.Config:
            if self.correction and self.old != "start":
                raise ValueError("correction weighs the trainer's start against the engine; set old: start")
            if self.ceiling is not None and (self.mask != "clip" or self.ceiling <= 1 + self.high):
                raise ValueError(f"ceiling bounds mask: clip from above; it must be over 1 + high = {1 + self.high}")
            for bounds in (self.positive_ratio, self.negative_ratio):
                if not 0 <= bounds[0] <= bounds[1]:
                    raise ValueError(f"ratio bounds go from low to high, from 0 on; found {list(bounds)}")
                if self.denominator != "now" and bounds != (1.0, 1.0):
                    raise ValueError("a ratio as a weight needs denominator: now; old differentiates the ratio itself")
            return self

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()

    @property
    def needs(self) -> frozenset[str]:
        """What must be computed beside log-probs: reference, start, entropy, score:value."""
        config = self.config
        wanted = {
            "reference": config.kl is not None,
            "start": config.old == "start",
            "entropy": config.entropy != 0.0,
            "score:value": config.value is not None,
        }
        return frozenset(name for name, needed in wanted.items() if needed)

    @property
    def corrects(self) -> bool:
        """Whether a token that an older policy sampled counts by what the policy thinks of it since, or is meant to be
        learnt from wherever it comes from."""
        config = self.config
        if config.denominator == "old":
            return config.old == "engine" or bool(config.correction)
        whole = (1.0, 1.0)
        weighed = config.positive_ratio != whole or config.negative_ratio != whole or config.correction
        return bool(weighed or config.shift or config.tether or config.gradient == "shaped")

    @property
    def every_token(self) -> bool:
        """Whether tokens of advantage 0 matter: to a regulariser, or to a figure of their whole trajectory."""
        config = self.config
        beside = (config.kl, config.value, config.tether, config.entropy, config.shift, config.length_cost)
        whole = config.level != "token" or config.drift is not None
        return any(beside) or whole or any(weight.level != "token" for weight in config.correction)

    @property
    def aggregate(self) -> Aggregate:
        """How tokens are weighed when rows are packed."""
        return self.config.aggregate

    @property
    def length(self) -> int:
        """The constant that stands for a trajectory's tokens where ``aggregate`` is ``constant``."""
        return self.config.length

    @property
    def token_advantage(self) -> RewardKl | None:
        """The estimator that subtracts the KL from each token's advantage before the update, if it is in the reward."""
        kl = self.config.kl
        return RewardKl(kl.coefficient) if kl is not None and kl.into == "reward" else None

    def __call__(self, tokens: Tokens) -> Tensor:
        """The sum of coefficient x loss over the micro-batch's tokens: a scalar."""
        return (tokens.coefficient_N * self.per_token(tokens)).sum()

    def per_token(self, tokens: Tokens) -> Tensor:
        """The loss of each token (N,), before its share is taken."""
        parts = self.parts(tokens)
        taken_N = parts.likelihood_N.where(parts.stable_N, parts.held_N)
        return self._regularised(tokens, parts, -(parts.weight_N * parts.advantage_N * taken_N))

    def parts(self, tokens: Tokens) -> Parts:
        """The four parts for these tokens."""
        config = self.config
        ratio_N = bounded_exp(log_ratio(tokens, self._old(tokens), config.level, config.preclip))
        advantage_N = self._advantage(tokens)
        stable_N, held_N = self._stable(tokens, ratio_N.detach(), advantage_N)
        taken_N = likelihood(tokens.logprob_N, ratio_N, config.denominator)
        weight_N = importance(tokens, config.correction) * self._ratio_weight(ratio_N.detach(), advantage_N)
        if config.gradient == "shaped":
            taken_N = shaped(tokens.logprob_N, config.gamma)
        elif config.clone:
            taken_N = tokens.logprob_N.where(advantage_N > 0, taken_N)
        bare = (advantage_N > 0) & config.clone | (config.gradient == "shaped")
        stable_N, weight_N = stable_N | bare, weight_N.masked_fill(bare, 1.0)
        if "weight" in tokens.streams:
            weight_N = weight_N * tokens.streams["weight"]
        return Parts(stable_N, weight_N, advantage_N, taken_N, held_N, ratio_N)

    def figures(self, tokens: Tokens) -> Mapping[str, Tensor]:
        """Per token: the ratio before any mask and its square, what the mask stopped, KL, and the raw mismatch.

        ``summary`` turns the squares to effective sample sizes. Over the tokens of A < 0 alone: ``fallen``, by how many
        nats their log-prob has fallen since they were sampled, and ``weight_down``, their mean weight.
        """
        parts = Parts(*(part.detach() for part in self.parts(tokens)))
        down_N = tokens.advantage_N < 0
        found = {
            "ratio": parts.ratio_N,
            "ratio_squared": parts.ratio_N.square(),
            "stopped": 1.0 - parts.stable_N.to(parts.ratio_N.dtype),
            "fallen": (self._old(tokens) - tokens.logprob_N.detach())[down_N],
            "weight_down": parts.weight_N[down_N],
        }
        if self.config.kl is not None:
            found["kl"] = estimate(tokens.logprob_N.detach(), tokens.reference_N, "k3")
        for number, weight in enumerate(self.config.correction):
            raw_N = mismatch(tokens, weight.level)
            name = "mismatch" if len(self.config.correction) == 1 else f"mismatch_{number + 1}"
            found |= {name: raw_N, f"{name}_squared": raw_N.square()}
        if self.config.correction:
            found["correction"] = importance(tokens, self.config.correction)
        return found

    def summary(self, means: Mapping[str, float]) -> dict[str, float]:
        """The step's means with every square replaced by the effective sample size as a share of the tokens."""
        found = {name: mean for name, mean in means.items() if not name.endswith("_squared")}
        for name in means.keys() - found.keys():
            plain = name.removesuffix("_squared")
            found[f"{plain}_effective"] = effective_share(means[plain], means[name])
        return found

    def _old(self, tokens: Tokens) -> Tensor:
        return tokens.old_N if self.config.old == "engine" else tokens.start_N

    def _advantage(self, tokens: Tokens) -> Tensor:
        config, raw_N = self.config, tokens.advantage_N
        advantage_N = (config.positive * raw_N).where(raw_N > 0, config.negative * raw_N)
        if config.tilt is not None:
            advantage_N = advantage_N * (raw_N / config.tilt).clamp(max=BOUND).exp()
        if config.length_cost:
            advantage_N = advantage_N - config.length_cost * length_share(tokens, config.length)
        return advantage_N + config.shift

    def _ratio_weight(self, ratio_N: Tensor, advantage_N: Tensor) -> Tensor:
        positive_N = ratio_N.clamp(*self.config.positive_ratio)
        return positive_N.where(advantage_N >= 0, ratio_N.clamp(*self.config.negative_ratio))

    def _stable(self, tokens: Tokens, ratio_N: Tensor, advantage_N: Tensor) -> tuple[Tensor, Tensor]:
        """The mask, and the likelihood's value where it is off: PPO's bound, which counts in the loss, or 0."""
        config, held_N = self.config, ratio_N.new_zeros(ratio_N.shape)
        if config.mask == "clip":
            kept_N, bound_N = stable.clip(ratio_N, advantage_N, config.low, config.high, config.ceiling)
            held_N = bound_N if config.denominator == "old" else held_N
        elif config.mask == "one_side":
            kept_N = stable.one_side(ratio_N, advantage_N, config.low, config.high)
        elif config.mask == "two_side":
            kept_N = stable.two_side(ratio_N, config.low, config.high)
        elif config.mask == "ring":
            inner, outer = (config.low, config.high), (config.outer_low, config.outer_high)
            kept_N = stable.ring(ratio_N, advantage_N, inner, outer)
        elif config.mask == "probability":
            kept_N = stable.probability(tokens.logprob_N.detach(), self._old(tokens), advantage_N, config.trust)
        else:
            kept_N = ratio_N.new_ones(ratio_N.shape) > 0
        if config.drift is not None:
            fresh_N = stable.fresh(tokens, advantage_N, config.drift)
            kept_N, held_N = kept_N & fresh_N, held_N * fresh_N
        return kept_N, held_N

    def _regularised(self, tokens: Tokens, parts: Parts, loss_N: Tensor) -> Tensor:
        config = self.config
        if config.kl is not None and config.kl.into == "loss":
            kl_N = estimate(tokens.logprob_N, tokens.reference_N, config.kl.estimate)
            loss_N = loss_N + config.kl.coefficient * (kl_N * parts.ratio_N if config.kl.ratio else kl_N)
        if config.tether:
            loss_N = loss_N + config.tether * tether(tokens.logprob_N, self._old(tokens))
        if config.entropy:
            loss_N = loss_N - config.entropy * entropy(tokens)
        if config.value is not None:
            loss_N = loss_N + config.value.coefficient * value_error(tokens, config.value.clip)
        return loss_N
